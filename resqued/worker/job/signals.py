"""The signals that a worker handles, and what they do in a job's child and horse."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

from resqued.signal_table import DRAIN, DUMP, TABLE, InWorker
from resqued.signals import DEFAULT, set_handler

HARD: Final = 1.0
"""Seconds that a job has after stop-job before it is killed."""

HARD_FAIL: Final = 3.0
"""The same after the verdict Fail."""

_EFFECTS: Final = {row.signum: row.worker for row in TABLE}

HANDLED: Final = tuple(
    signum for signum, effect in _EFFECTS.items() if effect not in (InWorker.DUMP, InWorker.DEFAULT)
)
"""Signals that have a Python handler in the worker; DUMP is faulthandler's."""

WORKER_SIGNALS: Final = frozenset({*HANDLED, signal.SIGALRM, signal.SIGIO, signal.SIGPIPE, DUMP})
"""Signals whose handlers the worker sets itself."""


def restore_defaults() -> None:
    """Restore default signal handlers; in a child that job code has forked."""
    with contextlib.suppress(ValueError):  # not the main thread: no handlers there
        signal.set_wakeup_fd(-1)
        for signum in (*HANDLED, signal.SIGALRM):
            set_handler(signum, DEFAULT)
        signal.signal(signal.SIGINT, signal.default_int_handler)


def ignore_in_horse() -> None:
    """Ignore what ends a horse by default; containers send signals to every process."""
    for signum, effect in _EFFECTS.items():
        if effect in (InWorker.IGNORE, InWorker.REOPEN) or signum == DRAIN:
            signal.signal(signum, lambda signum, frame: None)


def ignore_in_child(reopen: Callable[[], None]) -> None:
    """In a child for a job: ignore signals, which are meant for its worker. What the child starts
    gets the default actions. reopen: called on SIGUSR1."""
    for signum in (*HANDLED, signal.SIGIO):
        set_handler(signum, _do_nothing)
    for signum, effect in _EFFECTS.items():
        if effect is InWorker.REOPEN:
            set_handler(signum, lambda signum, frame: reopen())


def _do_nothing(signum: int, frame: FrameType | None) -> None:
    """In place of SIG_IGN, which started programs would inherit."""


def kill_if_not_left(seconds: float) -> None:
    """Have the kernel end this process if the job does not end in time. An alarm with the default
    action works inside C code too. When the job ends, RQ's death penalty cancels the alarm. Called
    in a signal handler."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
