"""Signals: a mailbox that the loop reads, and the two acts around a fork or an exec."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final, Self

handler_of: Final[Callable[[int], Any]] = getattr(
    sys.modules.get("_signal"), "getsignal", signal.getsignal
)
"""`signal.getsignal`, or, ten times as fast, the function below it that makes no enum."""

set_handler: Final[Callable[[int, Any], Any]] = getattr(
    sys.modules.get("_signal"), "signal", signal.signal
)
"""`signal.signal`, or the function below it; for a process that sets many, and is to begin soon.
It takes DEFAULT."""

DEFAULT: Final[Any] = getattr(sys.modules.get("_signal"), "SIG_DFL", signal.SIG_DFL)

SIG_SETMASK: Final = int(signal.SIG_SETMASK)
set_mask: Final[Callable[[int, Any], Any]] = getattr(
    sys.modules.get("_signal"), "pthread_sigmask", signal.pthread_sigmask
)
"""The same for `signal.pthread_sigmask`."""

NOW: Final = signal.SIGRTMIN + 1
"""To a worker, from above only, together with the stop word NOW: interrupt the job."""

DUMP: Final = signal.SIGRTMIN + 2
"""To a worker: faulthandler writes the stacks of all threads, even from inside C code."""

COMMAND: Final = signal.SIGRTMIN + 3
"""To a worker: there is an order on the scoreboard, or, from the kernel, the connection that brings
commands has something to read (a worker without an arbiter)."""

HANDLED: Final[frozenset[int]] = frozenset(
    {
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGWINCH,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGCHLD,
        NOW,
        DUMP,
        COMMAND,
    }
)
"""What one of our processes may be sent; blocked while there are two of it or its image changes."""

_JOB_CONTROL: Final = frozenset({signal.SIGTTIN, signal.SIGTTOU})


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Block HANDLED: in the gap of a fork or exec no signal meets the wrong handler.

    Keep it short, since standard signals that arrive twice meanwhile come out as one; and start
    no program inside, it would inherit the mask.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def reset() -> None:
    """Forget the parent's handlers and wakeup descriptor. For a fresh child, inside `held`."""
    signal.set_wakeup_fd(-1)
    for signum in HANDLED:
        set_handler(signum, DEFAULT)


def unblock() -> None:
    """Empty the signal mask: whatever started us may have left signals blocked."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def name_of(signum: int) -> str:
    """`SIGHUP`; a number for one of the real-time signals in between, which have no name."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"


@contextlib.contextmanager
def off_the_terminal() -> Iterator[None]:
    """Write to a terminal, and read from it, as if in its foreground: without SIGTTOU and SIGTTIN.

    In its background, `stty tostop` has the kernel answer each write with a SIGTTOU to the whole
    process group; with a handler for it Python writes again, for ever. Blocked, it writes
    (termios(3), tostop). For the calling thread.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _JOB_CONTROL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class WakeupPipe:
    """A pipe for `signal.set_wakeup_fd`, in a process whose jobs may close any descriptor."""

    def __init__(self) -> None:
        self.read = self.write = -1
        self._inode = 0

    def make(self) -> None:
        """Open it. The numbers that it had are not closed: they may be somebody else's by now."""
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
    """The signals that arrived, in order. The wakeup pipe is the queue; the handler only notes
    what comes while somebody has closed the pipe.

    Install it before anything a sender could wait for, such as the pid file.
    """

    def __init__(self, signums: frozenset[int]) -> None:
        self._signums = signums
        self._noted: list[int] = []
        self._lost = False  # the pipe, with what was in it
        self._handler = self._note
        self._open()

    def _open(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._read_is, self._write_is = identity(self._read), identity(self._write)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        """The C runtime has put the number into the wakeup pipe already; the loop acts on it."""
        if not self._noted or self._noted[-1] != signum:
            self._noted.append(signum)

    def __enter__(self) -> Self:
        self._install()
        return self

    def _install(self) -> list[int]:
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        taken = [each for each in self._signums if signal.getsignal(each) is not self._handler]
        for signum in taken:
            signal.signal(signum, self._handler)
        return taken

    def take_back(self) -> list[str]:
        """Install it again where plugins or the application have put themselves in its place, have
        blocked signals, or have closed its descriptors.

        What they have done, for the log: `changed the handlers of SIGHUP`, `blocked SIGTERM`.
        """
        blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, {*self._signums, signal.SIGALRM})
        done = {"changed the handlers of": self._install(), "blocked": blocked & self._signums}
        return [
            f"{what} {', '.join(sorted(map(name_of, signums)))}"
            for what, signums in done.items()
            if signums
        ]

    def renew(self) -> bool:
        """Make the pipe anew if its descriptors are no longer ours; whether that was so.

        Their numbers are not closed: they are somebody else's by now, or nobody's.
        """
        if identity(self._read) == self._read_is and identity(self._write) == self._write_is:
            return False
        self._lost = True
        self._open()
        self._install()
        return True

    def __exit__(self, *exc: object) -> None:
        signal.set_wakeup_fd(-1)
        for fd, it in ((self._read, self._read_is), (self._write, self._write_is)):
            if identity(fd) == it:
                os.close(fd)

    def fileno(self) -> int:
        return self._read

    def collect(self) -> list[int]:
        """What has arrived since the last call, oldest first; other signals are left out."""
        self.renew()
        arrived: list[int] = []
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._read, 4096):
                arrived.extend(chunk)
        noted, self._noted = self._noted, []
        if self._lost:
            self._lost = False
            return noted
        return [signum for signum in arrived if signum in self._signums]


def identity(fd: int) -> tuple[int, int] | None:
    """What a descriptor leads to, so that one that was closed and used again is told from ours."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino
