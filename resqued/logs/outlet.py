"""The descriptor that log lines go to: whole lines, never an error, never a wait without end."""

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
"""Milliseconds that a line waits for a reader who does not read; later lines do not wait."""


class Outlet:
    """Writes lines to `fd`, one write each, and counts those that could not be written.

    A full disk, a reader that went away or stands still must not stop a worker, and least of all
    the arbiter, so those lines are lost; `lost` says how many since the last that went through.
    It has no lock: appending one line is one system call, and a lock could be left held by an
    exception out of a signal handler, such as a job's timeout.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.lost = 0
        self._torn = False  # the last line ended in the middle
        self._socket: socket.socket | None = None
        self._put: Callable[[memoryview], int] = self._write
        with contextlib.suppress(OSError):  # closed: every line will be lost
            if stat.S_ISSOCK(os.fstat(fd).st_mode):  # journald; it may stand still too
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
            pass  # EPIPE, ENOSPC, EFBIG, EIO ..: counted, and told when a line goes through again
        finally:
            if sent:  # an exception of a signal handler may have come between
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
        """Give back what was opened besides `fd`, which is not ours to close."""
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
    """A descriptor for what `fd` writes to, that never blocks; `fd` itself if there is no need.

    A pipe or terminal is opened anew: O_NONBLOCK on `fd` would meet everyone who shares it, the
    shell that started us included. If that is not permitted, `fd` it is.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        is_pipe = stat.S_ISFIFO(os.fstat(fd).st_mode)
        if not os.get_blocking(fd) or not (is_pipe or os.isatty(fd)):
            return fd
        return os.open(f"/proc/self/fd/{fd}", flags)
    return fd


def open_for_append(path: str) -> int:
    """Open a log file, made if need be, for writing at its end. Raises OSError.

    Close-on-exec. A FIFO that nobody reads is an error, not a wait. Raises Untrusted for a symbolic
    link that somebody else may have put there (`ownership.check_link`).
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_NOFOLLOW, 0o640)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    check_link(path)
    return os.open(path, flags, 0o640)
