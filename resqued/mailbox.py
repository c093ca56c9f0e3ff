"""Collects the signals of a process for its loop: the mailbox, and its wakeup pipe."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
from _thread import get_ident
from types import FrameType
from typing import Self

from resqued.linux import identity
from resqued.signals import handler_of, name_of


class WakeupPipe:
    """A pipe for `signal.set_wakeup_fd`, in a process whose jobs may close any descriptor."""

    def __init__(self) -> None:
        self.read = self.write = -1
        self._inode = 0

    def make(self) -> None:
        """Open it. The numbers that it had are not closed: other code may use them by now."""
        self.read, self.write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._inode = os.fstat(self.write).st_ino

    @property
    def intact(self) -> bool:
        """Whether its descriptors are still its own."""
        try:
            return os.fstat(self.read).st_ino == os.fstat(self.write).st_ino == self._inode
        except OSError:
            return False

    def drain(self) -> None:
        """Read all that is in it."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.read, 4096):
                pass

    def close(self) -> None:
        for fd in (self.read, self.write):
            with contextlib.suppress(OSError):
                os.close(fd)
        self.read = self.write = -1


class Mailbox:
    """The signals that arrived, in order. The wakeup pipe is the queue; the handler notes a
    signal only while the pipe is closed by other code.

    Install it before the pid file is written, or anything else that a sender may wait for.
    """

    def __init__(self, signums: frozenset[int]) -> None:
        self._signums = signums
        self._read_ahead: collections.deque[int] = collections.deque()
        self._noted: list[int] = []
        self._lost = False  # the pipe was closed, with its contents
        self._renewed = False  # and opened again, since the last `renew`
        self._handler = self._note
        self._main = get_ident()
        self._open()

    def _open(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._read_is, self._write_is = identity(self._read), identity(self._write)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        """Handle a signal. Python has written its number to the wakeup pipe already."""
        if not self._noted or self._noted[-1] != signum:
            self._noted.append(signum)

    def __enter__(self) -> Self:
        self._install()
        return self

    def _install(self) -> list[int]:
        """Only the main thread can; another leaves it to the main thread's next `take_back`."""
        if get_ident() != self._main:
            return []
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        taken = [each for each in self._signums if handler_of(each) != self._handler]
        for signum in taken:
            signal.signal(signum, self._handler)
        return taken

    def take_back(self) -> list[str]:
        """Restore handlers, mask and descriptors that plugins or the application have changed.

        Returns what they have done, for the log: `changed the handlers of SIGHUP`, `blocked
        SIGTERM`. Does nothing in other threads, whose mask is their own. A few microseconds.
        """
        if get_ident() != self._main:
            return []
        if not self._is_intact():
            self._renewed = self._reopen()
        blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, {*self._signums, signal.SIGALRM})
        done = {"changed the handlers of": self._install(), "blocked": blocked & self._signums}
        return [
            f"{what} {', '.join(sorted(map(name_of, signums)))}"
            for what, signums in done.items()
            if signums
        ]

    def renew(self) -> bool:
        """Open the pipe again if other code has closed its descriptors; whether it has since the
        last call.

        The old numbers are not closed, since other code may use them by now.
        """
        renewed, self._renewed = self._renewed, False
        return renewed if self._is_intact() else self._reopen()

    def _reopen(self) -> bool:
        self._lost = True
        self._open()
        self._install()
        return True

    def _is_intact(self) -> bool:
        return identity(self._read) == self._read_is and identity(self._write) == self._write_is

    def __exit__(self, *exc: object) -> None:
        signal.set_wakeup_fd(-1)
        for fd, it in ((self._read, self._read_is), (self._write, self._write_is)):
            if identity(fd) == it:
                os.close(fd)

    def fileno(self) -> int:
        return self._read

    def holds(self, signums: frozenset[int]) -> bool:
        """Whether one of these has arrived that is not collected yet.

        Also for signal handlers and other threads: it opens and installs nothing.
        """
        if not self._is_intact():
            return not signums.isdisjoint(self._noted)
        self._pump()
        return not signums.isdisjoint(self._read_ahead.copy())

    @property
    def has_read_ahead(self) -> bool:
        """Whether `holds` has taken signals out of the pipe, which a poll does not see any more:
        who waits must not wait then."""
        return bool(self._read_ahead)

    def _pump(self) -> None:
        """Read what is in the pipe."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._read, 4096):
                self._read_ahead.extend(chunk)

    def collect(self) -> list[int]:
        """Signals that have arrived since the last call, oldest first; only those of this
        mailbox."""
        if not self._is_intact():
            self._renewed = self._reopen()
        self._pump()
        arrived: list[int] = []
        while self._read_ahead:
            arrived.append(self._read_ahead.popleft())
        noted, self._noted = self._noted, []
        if self._lost:
            self._lost = False
            return noted
        return [signum for signum in arrived if signum in self._signums]
