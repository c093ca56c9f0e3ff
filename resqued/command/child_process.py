"""Run code that imports the application in a child process, and report how that ended.

Imported code may end the process silently and with any status, or keep it from ending: a call of
`os._exit`, a crash in C code, a thread that does not end. Runs in a command.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Final

from resqued import linux
from resqued.exits import ExitCode

_LEAVING: Final = 5.0
"""Seconds that the child has to end after it has reported its exit status."""

_TURN: Final = 0.02  # seconds


def run(work: Callable[[], int]) -> int:
    """Run it in a child, which may print. Returns the child's exit status; CONFIG, with an error
    on standard error, if the child has ended before it reported one."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    pid = os.fork()
    if not pid:
        os.close(reader)
        return _work(work, writer)
    os.close(writer)
    try:
        return _await(pid, reader)
    except KeyboardInterrupt:
        return 130  # as a shell reports SIGINT; the child goes with this process
    finally:
        os.close(reader)


def _work(work: Callable[[], int], writer: int) -> int:
    """Runs in the child, which then ends as any program does: atexit functions run."""
    linux.set_parent_death_signal(signal.SIGKILL)
    code = work()
    with contextlib.suppress(BrokenPipeError):  # the parent was interrupted
        os.write(writer, bytes([code]))
    return code


def _await(pid: int, reader: int) -> int:
    word, status, until = b"", None, float("inf")
    while status is None and time.monotonic() < until:
        ended, found = os.waitpid(pid, os.WNOHANG)
        status = found if ended else None
        if not word and (word := _read(reader)):
            until = time.monotonic() + _LEAVING
        if status is None:
            time.sleep(_TURN)
    if status is None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if word:
        return word[0]
    assert status is not None
    code = os.waitstatus_to_exitcode(status)
    how = f"signal {-code}" if code < 0 else f"exit status {code}"
    text = f"what is loaded has ended the process before the check was done: {how}"
    print(f"resqued: error: {text}", file=sys.stderr, flush=True)
    return ExitCode.CONFIG


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 1)
    except BlockingIOError:
        return b""
