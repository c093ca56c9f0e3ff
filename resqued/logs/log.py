"""Write the log of a process: one line per fact, into a descriptor that stays the same.

loguru creates the records, and resqued writes them. loguru's own sinks cannot be reopened, and the
lock around a sink stays held for ever if a job's timeout is raised at the wrong moment (loguru
0.7.3). So resqued's writer is installed as the *filter* of a sink, and lets nothing through to the
sink: loguru calls filters without a lock.

`logger`, with which all of resqued logs, is separate from loguru's own, and has its own sinks. So a
sink or patcher of the application or a plugin that raises or hangs does so only in their own log
calls, `logger.remove()` elsewhere does not silence resqued, and tools that watch the application's
log for errors do not see resqued's. The writer is also a sink of loguru's own logger until the
application removes it, so that lines of an application without a sink are not lost.

Reopening opens the path again and dups it onto the same number. That takes no lock, so it is done
in the signal handler, and a worker in the middle of a job, its standard output and faulthandler
write to the new file at once.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import traceback
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import loguru

from resqued import linux
from resqued.exits import ExitCode
from resqued.logs.line_format import render
from resqued.logs.outlet import Outlet, is_file, is_journal, open_for_append, put_onto, unblocked
from resqued.logs.redaction import know, know_environment, redact
from resqued.logs.sources import Route, catch_the_rest, logger
from resqued.ownership import Untrusted
from resqued.printable import one_line

if TYPE_CHECKING:
    from loguru import Logger, Record

    from resqued.config import Config


_ONE_LINE: Final = ("resqued.worker.", "resqued.steward.", "resqued.broker.")
"""Modules that log names of jobs and queues, which may be any text: each message is one line. Other
modules may log several: stacks, tracebacks, messages of plugins or checks."""


class LogError(Exception):
    """A log file cannot be opened. `exit_code` is what the command exits with."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.CANNOT_CREATE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class _Log:
    """The log of this process."""

    def __init__(self) -> None:
        self.who = ""
        self.outlet = Outlet(2)
        self._style = "text"
        self._level = "INFO"
        self._is_on = True  # whether INFO is logged
        self._held = b""  # lines that are written together with the next
        self._is_plain = False  # whether the style is `text` with the default date
        self._date_format: str | None = None
        self._sink = self._add(logger)
        self._shared: int | None = None  # the sink in loguru's own logger
        self._route = Route()
        self._files: dict[int, str] = {}  # descriptor: path, of all that USR1 reopens
        self._rqs: list[logging.Logger] = []
        self._known: dict[int, tuple[int, int] | None] = {}
        self._unopened: list[str] = []

    def set_up(self, config: Config, who: str, fd: int | None) -> None:
        know(config.redis)
        for name in config.secret_options:
            value = config.options.get(name)
            several = value if isinstance(value, tuple) else (value,)
            know(*(str(each) for each in several if each is not None))
        know_environment({f"RESQUED_{name}": str(value) for name, value in config.options.items()})
        if fd is not None and fd <= 2:
            fd = None  # standard error stays what it is
        paths = {1: config.stdout_path, 2: config.stderr_path, fd: config.log_file}
        opened = _open_all({target: path for target, path in paths.items() if path is not None})
        self._files = {}
        for target, (path, new) in opened.items():
            if target is None:
                fd = new
            elif target != new:
                put_onto(target, new)
            self._files[new if target is None else target] = path
        if config.log_file is None and (fd is None or is_file(fd)):  # the old log file
            fd = unblocked(2)
        assert fd is not None
        self.outlet.close()
        self.outlet = Outlet(fd)
        self.who = who
        self._style = config.log_format
        if config.log_file is None and config.log_format == "text" and is_journal(2):
            self._style = "journal"
        level = "DEBUG" if config.verbose else "WARNING" if config.quiet else "INFO"
        self._level = config.logging_level or level
        self._is_on = logger.level(self._level).no <= logger.level("INFO").no
        self._date_format = config.date_format
        self._is_plain = self._style == "text" and self._date_format is None
        self._remember()
        self._install()
        self._rqs = catch_the_rest(self._route, verbose=self._level == "DEBUG")

    def reopen(self) -> None:
        for fd, path in self._files.items():
            try:
                opened = open_for_append(path)
            except (OSError, Untrusted) as error:
                why = error.strerror if isinstance(error, OSError) else error
                self._unopened.append(f"log '{path}' cannot be reopened: {why}")
                continue
            put_onto(fd, opened)
        self._remember()

    def _remember(self) -> None:
        """Note which files the descriptors lead to, to detect when one is closed."""
        self._known = {fd: linux.identity(fd) for fd in (*self._files, self.outlet.fd)}

    def reopen_lost(self) -> list[str]:
        """Reopen under a new number: the old one may belong to another file by now."""
        lost = [fd for fd, known in self._known.items() if linux.identity(fd) != known]
        for fd in lost:
            path = self._files.pop(fd, None)
            with contextlib.suppress(OSError, Untrusted):
                new = unblocked(2) if path is None else open_for_append(path)
                if path is not None:
                    self._files[new] = path
                if fd == self.outlet.fd:
                    self.outlet.close()
                    self.outlet = Outlet(new)
        if lost:
            self._remember()
        return [f"descriptor {fd} of the log" for fd in lost]

    def _install(self) -> None:
        logger.remove(self._sink)
        self._sink = self._add(logger)
        if self._shared is None:
            loguru.logger.remove()  # its first, to standard error
        else:
            try:
                loguru.logger.remove(self._shared)
            except ValueError:
                return  # the application has chosen its own sinks
        self._shared = self._add(loguru.logger)

    def _add(self, where: Logger) -> int:
        return where.add(
            _nowhere,
            level=self._level,
            format="{message}",
            filter=self.take,
            colorize=False,
            backtrace=False,
            diagnose=False,  # it prints the values of variables, passwords among them
            catch=False,  # an exception from a signal handler must reach the caller
        )

    @property
    def files(self) -> dict[int, str]:
        return self._files

    def repair(self) -> None:
        for each in self._rqs:
            each.disabled = False
        if self._rqs and not self._rqs[0].handlers:
            self._rqs[0].addHandler(self._route)

    def take(self, record: Record) -> bool:
        """Write a record. Always False, so that loguru does no more with it."""
        text = record["message"]
        if (record["name"] or "").startswith(_ONE_LINE):
            text = one_line(redact(text))
        if record["exception"] is not None:
            text = f"{text}\n{''.join(traceback.format_exception(*record['exception']))}".rstrip()
        self._put(record["time"], record["level"].name, text, record["extra"])
        return False

    def fact(self, text: str, *, more: bool = False) -> None:
        if not self._is_on:
            return
        text = one_line(redact(text))
        if self._is_plain and not self._unopened and not self.outlet.lost:
            when = datetime.now().isoformat(" ", "milliseconds")
            line = f"{when} INFO  {self.who} {text}\n"
            self._held += line.encode(errors="backslashreplace")
            if not more:
                self.let_out()
        else:
            self._put(datetime.now().astimezone(), "INFO", text, {})

    def let_out(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self.outlet.write(held)

    def _put(self, when: datetime, level: str, text: str, extra: dict[str, Any]) -> None:
        self.let_out()
        line = self._render(when, level, text, extra)
        notices = self._unopened
        if self.outlet.lost:
            notices = [*notices, f"{self.outlet.lost} log lines lost: they could not be written"]
        for notice in notices:
            line = self._render(when, "WARNING", notice, {}) + line
        if self.outlet.write(line):
            self._unopened = []

    def _render(self, when: datetime, level: str, text: str, extra: dict[str, Any]) -> bytes:
        return render(self._style, self.who, when, level, text, extra, self._date_format)


def _open_all(paths: dict[int | None, str]) -> dict[int | None, tuple[str, int]]:
    """Open every path, or none. Raises LogError."""
    opened: dict[int | None, tuple[str, int]] = {}
    for target, path in paths.items():
        try:
            opened[target] = path, open_for_append(path)
        except (OSError, Untrusted) as error:
            for _, fd in opened.values():
                os.close(fd)
            if isinstance(error, Untrusted):
                raise LogError(f"log {error}", ExitCode.NO_PERMISSION) from error
            remedy = "create its directory and let this user write there, or log somewhere else"
            if error.errno == errno.ENXIO:
                remedy = "it is a named pipe without a reader, or a socket"
            raise LogError(f"log '{path}' cannot be written: {error.strerror}; {remedy}") from error
    return opened


def _nowhere(message: str) -> None:
    """A sink that receives nothing, since the filter rejects every record."""


# One per process, as descriptors, loguru and logging are.
_log: Final = _Log()


def set_up(config: Config, who: str, fd: int | None = None) -> None:
    """Send this process's log where the settings say. May be called again, after a reload. who:
    prefix of each line, `arbiter` or `worker=3 gen=1 pid=812`. fd: the log's descriptor if it was
    inherited, from the arbiter or over a re-exec. Raises LogError when a file cannot be opened."""
    _log.set_up(config, who, fd)


def fact(text: str, *, more: bool = False) -> None:
    """Write an INFO line without loguru: each job has two, and these take a tenth of the time.
    more: another line follows at once, and this one may be written together with it; if none
    follows, call `let_out`."""
    _log.fact(text, more=more)


def let_out() -> None:
    """Write the lines that `fact` has held back, if any."""
    _log.let_out()


def set_who(who: str) -> None:
    """Change the prefix of each line, in a forked child."""
    _log.who = who


def reopen() -> None:
    """Open the log file, stdout_path and stderr_path again, onto the same descriptors. Takes no
    lock and logs nothing: for signal handlers. If a path cannot be opened, the old file stays in
    use, and the next line reports it."""
    _log.reopen()


def files() -> dict[int, str]:
    """The descriptors that `reopen` reopens, and the path of each."""
    return _log.files


def repair() -> None:
    """Enable RQ's loggers again, which an application's `dictConfig` has disabled. By default it
    disables all existing loggers that it does not name."""
    _log.repair()


def reopen_lost() -> list[str]:
    """Reopen the log's descriptors that other code has closed; which these were."""
    return _log.reopen_lost()


def fds() -> dict[str, int]:
    """The descriptors to pass to a fork server, or over a re-exec; `set_up` takes them."""
    return {"log": _log.outlet.fd}
