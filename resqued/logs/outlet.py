"""Write log lines to a descriptor: whole lines, no errors, and no endless wait."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
from collections.abc import Callable
from typing import Final

from resqued import originals, signals
from resqued.ownership import check_link

_PATIENCE: Final = 1000
"""Milliseconds that a line waits for a reader that does not read; later lines do not wait."""


class Outlet:
    """Writes lines to `fd`, one write each, and counts those that could not be written.

    A full disk, or a reader that is gone or stuck, must not stop a process, so such lines are lost;
    `lost` counts them since the last line that was written. There is no lock: appending a line is
    one system call, and an exception from a signal handler, such as a job's timeout, could leave a
    lock held.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.lost = 0
        self._torn = False  # the last line was cut off
        self._socket: socket.socket | None = None
        self._put: Callable[[memoryview], int] = self._write
        with contextlib.suppress(OSError):  # closed: every line will be lost
            if stat.S_ISSOCK(os.fstat(fd).st_mode):  # journald; it may be stuck too
                self._socket = socket.socket(fileno=os.dup(fd))
                self._put = self._send
            elif os.isatty(fd):
                self._put = self._write_to_terminal

    def write(self, line: bytes) -> bool:
        """Write a line, which ends in a newline; False if it is lost."""
        whole = b"\n" + line if self._torn else line
        sent = 0
        try:
            while sent < len(whole):
                try:
                    sent += self._put(memoryview(whole)[sent:])
                except BlockingIOError:
                    if self.lost or not self._wait():
                        break
        except OSError:
            pass  # EPIPE, ENOSPC, EFBIG, EIO: counted, and logged once a line can be written again
        finally:
            if sent:  # also after an exception from a signal handler
                self._torn = sent < len(whole)
        if sent < len(whole):
            self.lost += 1
            return False
        self.lost = 0
        return True

    def _write(self, data: memoryview) -> int:
        return os.write(self.fd, data)

    def _write_to_terminal(self, data: memoryview) -> int:
        with signals.off_the_terminal():
            return os.write(self.fd, data)

    def _send(self, data: memoryview) -> int:
        assert self._socket is not None
        return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def close(self) -> None:
        """Close what was opened besides `fd`, which belongs to the caller."""
        if self._socket is not None:
            self._socket.close()

    def _wait(self) -> bool:
        poll = originals.poll()
        poll.register(self.fd, select.POLLOUT)
        return any(events & select.POLLOUT for _, events in poll.poll(_PATIENCE))


def is_file(fd: int) -> bool:
    """Whether it leads to a regular file, rather than a pipe, a socket or a terminal."""
    return stat.S_ISREG(os.fstat(fd).st_mode)


def unblocked(fd: int) -> int:
    """A descriptor for what `fd` writes to that never blocks; `fd` itself if none is needed. A pipe
    or terminal is opened again: O_NONBLOCK on `fd` would affect all that share it, such as the
    shell. If that is not permitted, `fd` is used."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        is_pipe = stat.S_ISFIFO(os.fstat(fd).st_mode)
        if not os.get_blocking(fd) or not (is_pipe or os.isatty(fd)):
            return fd
        return os.open(f"/proc/self/fd/{fd}", flags)
    return fd


def open_for_append(path: str) -> int:
    """Open a log file for appending; it is created if missing. Raises OSError. Close-on-exec. A
    FIFO without a reader is an error, not a wait. Raises Untrusted for a symbolic link of another
    user (`ownership.check_link`)."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_NOFOLLOW, 0o640)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    check_link(path)
    return os.open(path, flags, 0o640)


def put_onto(fd: int, opened: int) -> None:
    """Make `fd` refer to the opened file, in one system call."""
    standard = fd <= 2
    if standard:
        os.set_blocking(opened, True)  # a FIFO: the application expects writes to block
    os.dup2(opened, fd, inheritable=standard)
    os.close(opened)


def is_journal(fd: int) -> bool:
    """Whether `fd` leads to journald, which takes levels and no time. systemd.exec(5)."""
    stream = os.environ.get("JOURNAL_STREAM")
    if stream is None:
        return False
    status = os.fstat(fd)
    return stream == f"{status.st_dev}:{status.st_ino}"
