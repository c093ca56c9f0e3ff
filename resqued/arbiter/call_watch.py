"""A second watch over the time limits of hooks, for what the timer cannot reach."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time
from typing import Final

from resqued import logs
from resqued.logs import LogEvent
from resqued.plugins.limits import LOOK, SWALLOWED, Call, Limits, stack_of

MASKED: Final = SWALLOWED * LOOK + 1.0
"""Seconds beyond its limit after which a call is treated as one that has swallowed them all: it
has blocked the timer's signal, or is in a C function that goes on after each signal."""


class CallWatch:
    """A thread that ends calls which the timer cannot: the hook has blocked SIGALRM or changed its
    handler, has stopped the timer, or is in C code that goes on after each signal.

    It needs the GIL, so code that holds it for ever is the service manager's case. Only for a
    process that never forks: the arbiter. It sleeps while no hook is called.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._woken: queue.SimpleQueue[None] = queue.SimpleQueue()  # its put is reentrant
        self._asleep = False

    def start(self) -> None:
        """Begin. Without a thread, where none can be started, the timer is all there is."""
        with contextlib.suppress(RuntimeError):
            threading.Thread(target=self._run, name="resqued-watch", daemon=True).start()
            self._limits.began = self._wake

    def _wake(self) -> None:
        if self._asleep:
            self._asleep = False
            self._woken.put(None)

    def _run(self) -> None:
        while True:
            call = self._limits.current
            if call is None:
                self._asleep = True
                if self._limits.current is None:
                    self._woken.get()
                self._asleep = False
            # Not `get` with a timeout: a signal just after it makes CPython 3.11 wait for ever.
            time.sleep(LOOK)
            if call is not None and call is self._limits.current:
                self._look(call)

    def _look(self, call: Call) -> None:
        """Runs once a second during a call that lasts."""
        limits = self._limits
        limits.shorten(call)
        if call.over < MASKED or limits.resist is None:
            return
        with limits.gate:  # the main thread cannot leave the call meanwhile
            if call is limits.current:
                logs.error(
                    f"{call.what} cannot be interrupted, {call.over:.0f} s after its time limit\n"
                    f"{stack_of(sys._current_frames().get(threading.main_thread().ident or 0))}",
                    LogEvent.ARBITER_NOTICE,
                )
                limits.give_up_on(call)
