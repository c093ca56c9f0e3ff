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
        signal.signal(signum, signal.SIG_DFL)


def unblock() -> None:
    """Empty the signal mask: whatever started us may have left signals blocked."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _record(signum: int, frame: FrameType | None) -> None:
    """The C runtime has put the number into the wakeup pipe already; the loop acts on it."""


def name_of(signum: int) -> str:
    """`SIGHUP`; a number for one of the real-time signals in between, which have no name."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"


class Mailbox:
    """The signals that arrived, in order. The wakeup pipe is the queue; handlers do nothing.

    Install it before anything a sender could wait for, such as the pid file.
    """

    def __init__(self, signums: frozenset[int]) -> None:
        self._signums = signums
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        self.take_back()
        return self

    def take_back(self) -> list[str]:
        """Install it again where plugins or the application have put themselves in its place.

        The names of the signals whose handlers were others.
        """
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        taken = [signum for signum in self._signums if signal.getsignal(signum) is not _record]
        for signum in taken:
            signal.signal(signum, _record)
        return sorted(map(name_of, taken))

    def __exit__(self, *exc: object) -> None:
        signal.set_wakeup_fd(-1)
        os.close(self._read)
        os.close(self._write)

    def fileno(self) -> int:
        return self._read

    def collect(self) -> list[int]:
        """What has arrived since the last call, oldest first; other signals are left out."""
        arrived: list[int] = []
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._read, 4096):
                arrived.extend(chunk)
        return [signum for signum in arrived if signum in self._signums]
