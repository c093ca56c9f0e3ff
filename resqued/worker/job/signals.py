"""Which signals a worker handles, and what they are to the processes of a job: its child, its
horse, and what they start."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

from resqued.signals import COMMAND, DEFAULT, DUMP, NOW, set_handler

HARD: Final = 1.0
"""Seconds that a job has to leave after stop-job before it is killed."""

DRAIN: Final = (signal.SIGQUIT, signal.SIGTERM, signal.SIGINT)
IGNORED: Final = (
    signal.SIGHUP,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGWINCH,
)

HANDLED: Final = (*DRAIN, *IGNORED, signal.SIGUSR1, NOW, COMMAND)

OURS: Final = frozenset({*HANDLED, signal.SIGALRM, signal.SIGIO, signal.SIGPIPE, DUMP})
"""Signals whose handlers a worker sets itself."""


def be_like_any_program() -> None:
    """Take our handlers off; in a child that job code has forked."""
    with contextlib.suppress(ValueError):  # not the main thread, so there are none
        signal.set_wakeup_fd(-1)
        for signum in (*HANDLED, signal.SIGALRM):
            set_handler(signum, DEFAULT)
        signal.signal(signal.SIGINT, signal.default_int_handler)


def ignore_in_horse() -> None:
    """What RQ leaves at the default action, which ends a horse; containers signal everybody."""
    for signum in (*IGNORED, signal.SIGQUIT, signal.SIGUSR1):
        signal.signal(signum, lambda signum, frame: None)


def ignore_in_child(reopen: Callable[[], None]) -> None:
    """In a child for a job: who is signalled is its worker, whoever else the signal comes to. What
    the child starts has the default actions. reopen: called on SIGUSR1."""
    for signum in (*DRAIN, *IGNORED, NOW, COMMAND, signal.SIGIO):
        set_handler(signum, _do_nothing)
    set_handler(signal.SIGUSR1, lambda signum, frame: reopen())


def _do_nothing(signum: int, frame: FrameType | None) -> None:
    """In the place of SIG_IGN, which programs started from here would inherit."""


def kill_if_not_left(seconds: float) -> None:
    """Have the kernel end this process if the job does not leave in time.

    An alarm with the default action works inside C code too. Leaving the job disarms it: RQ's
    death penalty does on the way out. Called in a handler.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
