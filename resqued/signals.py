"""Blocks, resets and unblocks signals around a fork or an exec. Their effects: `signal_table`."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

from resqued.signal_table import TABLE, row_of

handler_of: Final[Callable[[int], Any]] = getattr(
    sys.modules.get("_signal"), "getsignal", signal.getsignal
)
"""`signal.getsignal`, or the C function below it, which makes no enum and is ten times as fast."""

set_handler: Final[Callable[[int, Any], Any]] = getattr(
    sys.modules.get("_signal"), "signal", signal.signal
)
"""`signal.signal`, or the C function below it, for a process that sets many at its start. It takes
DEFAULT."""

DEFAULT: Final[Any] = getattr(sys.modules.get("_signal"), "SIG_DFL", signal.SIG_DFL)

SIG_SETMASK: Final = int(signal.SIG_SETMASK)
set_mask: Final[Callable[[int, Any], Any]] = getattr(
    sys.modules.get("_signal"), "pthread_sigmask", signal.pthread_sigmask
)
"""The same for `signal.pthread_sigmask`."""

HANDLED: Final[frozenset[int]] = frozenset(row.signum for row in TABLE)
"""Signals that processes of resqued may get; blocked around a fork and during an exec."""

_JOB_CONTROL: Final = frozenset({signal.SIGTTIN, signal.SIGTTOU})


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Block HANDLED, so that during a fork or exec no signal runs the wrong handler.

    Keep it short: a standard signal that arrives twice meanwhile is delivered once. Start no
    program inside: it would inherit the mask.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def reset() -> None:
    """Remove the parent's handlers and wakeup descriptor. Runs in a new child, inside `held`."""
    signal.set_wakeup_fd(-1)
    for signum in HANDLED:
        set_handler(signum, DEFAULT)


def unblock() -> None:
    """Empty the signal mask: the process that started this one may have left signals blocked."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def name_of(signum: int) -> str:
    """A signal's name, such as `SIGHUP`; its number for a real-time signal, which has no name."""
    with contextlib.suppress(ValueError):
        return signal.Signals(signum).name
    with contextlib.suppress(KeyError):
        return f"SIG{row_of(signum).name}"
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
