"""Going into the background, with the truth about the start as exit status of the foreground."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from resqued.exits import ExitCode


class Announcer:
    """The daemon's line to the command that started it, which waits for one word."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    def announce(self, exit_code: int | None, message: str = "") -> None:
        """Say how the start went; only the first word counts.

        exit_code: None = ready, the waiting command exits 0. message: what it prints, a warning
        or the error; the log has it too.
        """
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        try:
            os.write(fd, f"{exit_code or 0}\n{message}"[:4000].encode(errors="replace"))
        except BrokenPipeError:
            pass  # nobody waits any more; we run on
        finally:
            os.close(fd)


def daemonize() -> Announcer:
    """Go on in the background, in a session of our own; the caller's process waits and exits.

    Before anything that a fork would copy: pid file, scoreboard, threads, handlers. Standard
    input, output and error lead nowhere from here on, so that whoever started us (an ssh) need
    not wait for them; the log has its own descriptor. Working directory and umask stay.
    Raises RuntimeError as PID 1, whose end would be the container's.
    """
    if os.getpid() == 1:
        raise RuntimeError("PID 1 cannot go into the background; leave -D away in a container")
    for stream in (sys.stdout, sys.stderr):
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
        print(message, file=sys.stderr, flush=True)
    os._exit(int(code))
