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

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import loguru

from resqued.log_events import LogEvent
from resqued.logs.job_context import JobContext
from resqued.logs.job_filter import HIDDEN
from resqued.logs.job_line import JobLine
from resqued.logs.line_format import Line, render
from resqued.logs.opened import LogFiles, open_all
from resqued.logs.outlet import Outlet, is_file, is_journal, put_onto, unblocked
from resqued.logs.record_line import line_of
from resqued.logs.redaction import know, know_environment, redact
from resqued.logs.sources import Route, catch_the_rest, logger
from resqued.printable import is_short, one_line

if TYPE_CHECKING:
    from loguru import Logger, Record

    from resqued.config import Config


class _Log:
    """The log of this process."""

    def __init__(self) -> None:
        self.who = ""
        self.outlet = Outlet(2)
        self._style = "text"
        self._level = "INFO"
        self._hidden: frozenset[LogEvent] = frozenset()
        self.logs_each_job = True  # whether INFO is logged, and --log-jobs is all
        self.wants_fields = False
        self.job = JobContext()
        self._job_line = JobLine()
        self._held = b""  # lines that are written together with the next
        self._is_plain = False  # whether the style is `text` with the default date
        self._date_format: str | None = None
        self._sink = self._add(logger)
        self._shared: int | None = None  # the sink in loguru's own logger
        self._route = Route(self.job)
        self._files = LogFiles()
        self._rqs: list[logging.Logger] = []

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
        opened = open_all({target: path for target, path in paths.items() if path is not None})
        self._files.paths = {}
        for target, (path, new) in opened.items():
            if target is None:
                fd = new
            elif target != new:
                put_onto(target, new)
            self._files.paths[new if target is None else target] = path
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
        self._hidden = HIDDEN[config.log_jobs]
        is_on = logger.level(self._level).no <= logger.level("INFO").no
        self.logs_each_job = is_on and not self._hidden
        self._date_format = config.date_format
        self.wants_fields = self._style == "json"
        self._is_plain = self._style == "text" and self._date_format is None
        self._files.remember(self.outlet)
        self._install()
        self._rqs = catch_the_rest(self._route, verbose=self._level == "DEBUG")

    def reopen(self) -> None:
        self._files.reopen(self.outlet)

    def reopen_lost(self) -> list[str]:
        self.outlet, lost = self._files.reopen_lost(self.outlet)
        return lost

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
        return self._files.paths

    def repair(self) -> None:
        for each in self._rqs:
            each.disabled = False
        if self._rqs and not self._rqs[0].handlers:
            self._rqs[0].addHandler(self._route)

    def take(self, record: Record) -> bool:
        """Write a record. Always False, so that loguru does no more with it."""
        line = line_of(record, self.job)
        if line.event not in self._hidden:
            self._put(line)
        return False

    def each_job(
        self, event: LogEvent, logged_by: str, text: str, fields: Mapping[str, Any], more: bool
    ) -> None:
        if not self.logs_each_job:
            return
        clean = redact(text)
        is_usual = not self._files.unopened and not self.outlet.lost
        if self._is_plain and is_usual:
            self._held += self._job_line.text(self.who, one_line(clean))
        elif self._style == "json" and is_usual and clean is text and is_short(text):
            self._held += self._job_line.json(self.who, logged_by, text, event, fields)
        else:
            now = datetime.now().astimezone()
            self._put(Line(now, "INFO", one_line(clean), logged_by, event, fields))
            return
        if not more:
            self.let_out()

    def let_out(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self.outlet.write(held)

    def _put(self, line: Line) -> None:
        self.let_out()
        whole = self._render(line)
        notices = self._files.unopened
        if self.outlet.lost:
            notices = [*notices, f"{self.outlet.lost} log lines lost: they could not be written"]
        for notice in notices:
            about = Line(line.when, "WARNING", notice, __name__, LogEvent.LOG_NOTICE)
            whole = self._render(about) + whole
        if self.outlet.write(whole):
            self._files.unopened = []

    def _render(self, line: Line) -> bytes:
        return render(self._style, self.who, line, self._date_format)


def _nowhere(message: str) -> None:
    """A sink that receives nothing, since the filter rejects every record."""


# One per process, as descriptors, loguru and logging are.
_log: Final = _Log()


def set_up(config: Config, who: str, fd: int | None = None) -> None:
    """Send this process's log where the settings say. May be called again, after a reload. who:
    prefix of each line, `arbiter` or `worker=3 gen=1 pid=812`. fd: the log's descriptor if it was
    inherited, from the arbiter or over a re-exec. Raises LogError when a file cannot be opened."""
    _log.set_up(config, who, fd)


def each_job(
    event: LogEvent, logged_by: str, text: str, fields: Mapping[str, Any], *, more: bool = False
) -> None:
    """Write an INFO line without loguru: each job has two, which take a tenth of the time.
    logged_by: the module. fields: empty unless `wants_fields`; texts in it are in `text` too.
    more: another line follows at once, and this one may be written together
    with it; if none follows, call `let_out`."""
    _log.each_job(event, logged_by, text, fields, more)


def wants_fields() -> bool:
    """Whether `each_job` needs the fields of its event."""
    return _log.wants_fields


def logs_each_job() -> bool:
    """Whether `each_job` writes anything; else its text need not be made."""
    return _log.logs_each_job


def bind_job(job_id: str, queue: str, function: str, *, failure_follows: bool = True) -> None:
    """From here on, lines that the application logs have `job`, `queue` and `function`. Without a
    system call. failure_follows: resqued logs a failure of it, so that RQ's line is DEBUG."""
    _log.job.bind(job_id, queue, function, failure_follows=failure_follows)


def unbind_job() -> None:
    """The job is over."""
    _log.job.unbind()


def let_out() -> None:
    """Write the lines that `each_job` has held back, if any."""
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
