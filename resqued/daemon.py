"""Starts the daemon; the command's exit status says how the start went."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from typing import Final, NoReturn

from resqued.exits import ExitCode


class Announcer:
    """The daemon's pipe to the command that started it, which waits for one message."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    def announce(self, exit_code: int | None, message: str = "") -> None:
        """Report how the start went; only the first report is sent.

        exit_code: None = ready, the waiting command exits 0. message: what it prints, a warning
        or the error; the log has it too.
        """
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        try:
            report = f"{exit_code or 0}\n{_redacted(message)}"
            os.write(fd, report[:4000].encode(errors="replace"))
        except OSError:
            pass  # the command has ended; the daemon runs on
        finally:
            with contextlib.suppress(OSError):  # a hook has closed it
                os.close(fd)


class Console:
    """The same for a start in the foreground whose log goes to a file: standard error as it was.

    `announce` as above, but it writes only errors, and nothing if standard error is the log. Runs
    in the arbiter.
    """

    def __init__(self, *, logged: bool, log: str | None = None) -> None:
        """logged: standard error is the log. log: else the path of its file, which is named."""
        self._log = log
        self._fd: int | None = None if logged else _copy_of(2)

    def announce(self, exit_code: int | None, message: str = "") -> None:
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        try:
            if exit_code:
                where = f"\nresqued: the log is {self._log}" if self._log else ""
                os.write(fd, f"{_redacted(message)}{where}\n".encode(errors="replace"))
        except OSError:
            pass  # it has no reader any more
        finally:
            with contextlib.suppress(OSError):  # a hook has closed it
                os.close(fd)


def _redacted(message: str) -> str:
    from resqued.logs.redaction import redact  # late, because the package is slow to import

    return redact(message)


def _copy_of(fd: int) -> int | None:
    try:
        return os.dup(fd)  # close-on-exec
    except OSError:
        return None


_KEPT: Final = 3
"""Standard input, output and error."""


def inherited() -> dict[int, tuple[int, int]]:
    """Descriptors besides the standard ones that the caller has left open, each with what
    it leads to. Call it before anything else is opened."""
    found: dict[int, tuple[int, int]] = {}
    with contextlib.suppress(OSError):  # no /proc: then they stay
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  # before slow imports
            with contextlib.suppress(OSError):  # the listing's own
                if int(name) >= _KEPT and os.get_inheritable(int(name)):
                    found[int(name)] = _identity(int(name))
    return found


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def close_inherited(found: Iterable[tuple[int, tuple[int, int]]]) -> None:
    """Close what `inherited` found, but for numbers that lead elsewhere by now.

    A caller may wait for the end of its pipes, and locks of it must be released.
    """
    for fd, identity in found:
        with contextlib.suppress(OSError):
            if _identity(fd) == identity:
                os.close(fd)


def daemonize(left_open: Iterable[tuple[int, tuple[int, int]]] = ()) -> Announcer:
    """Go on in the background, in a new session; the caller's process waits and exits.

    Before anything that a fork would copy: pid file, scoreboard, threads, handlers. Standard
    input, output and error lead nowhere from here on, so that the caller (an ssh) need
    not wait for them; the log has its own descriptor. Working directory and umask stay.
    left_open: what `inherited` found, which is closed.
    Raises RuntimeError as PID 1, whose end would end the container.
    """
    if os.getpid() == 1:
        raise RuntimeError("PID 1 cannot go into the background; leave -D away in a container")
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # else it was closed when this interpreter started
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    reader, writer = os.pipe2(os.O_CLOEXEC)
    first = os.fork()
    if first:
        os.close(writer)
        os.waitpid(first, 0)
        _wait_for_word(reader)
    os.setsid()
    if os.fork():  # a session's leader could get a terminal again
        os._exit(ExitCode.OK)
    os.close(reader)
    close_inherited(left_open)
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    if nowhere > 2:
        os.close(nowhere)
    return Announcer(writer)


def _wait_for_word(reader: int) -> NoReturn:
    """Runs in the process that the user started."""
    with os.fdopen(reader, "rb") as pipe:
        word = pipe.read()
    code, newline, message = word.decode(errors="replace").partition("\n")
    if not newline:
        code = str(int(ExitCode.GAVE_UP))
        message = "resqued ended before it was ready; its log says why"
    if message:
        with contextlib.suppress(OSError):  # standard error may be closed, or have no reader
            os.write(2, f"{message}\n".encode(errors="replace"))
    os._exit(int(code))
