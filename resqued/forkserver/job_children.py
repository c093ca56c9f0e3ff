"""Children that a worker forks for its jobs (`--isolation fork`): their birth and their end.

Only exit functions that were registered in the child run in it. Error trackers and tracers are
asked to flush before its end.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final, NoReturn

from resqued.forkserver import children
from resqued.forkserver.notes import Notes
from resqued.forkserver.process_exit import HURRY, ProcessExit, flush

_MILLISECONDS: Final = 1000


class Offspring:
    """Forks the children of one worker. Lives in the worker, and in its children.

    notes, stacks: as `ProcessExit` has them. now: whether the worker was told to stop now.
    """

    def __init__(self, notes: Notes, stacks: int, now: Callable[[], bool]) -> None:
        self._notes = notes
        self._stacks = stacks
        self._now = now
        self._frozen = False

    def fork(self, live: Callable[[], int], abandon: Callable[[], None]) -> int:
        """Fork a child whose life is `live`; the parent gets its pid. Raises OSError."""
        freeze, self._frozen = not self._frozen, True

        def begin() -> None:
            abandon()
            _forget_exit()

        return children.fork(live, abandon=begin, orphaned=signal.SIGKILL, freeze=freeze)

    def fork_again(self, live: Callable[[], int]) -> int:
        """The same in a child that only forks others like itself."""
        return children.fork_again(live, orphaned=signal.SIGKILL)

    def may_leave(self) -> bool:
        """In the child: whether it has no exit functions and nothing to flush."""
        return not (
            atexit._ncallbacks()
            or threading.active_count() > 1
            or _flushes()
            or _uses_multiprocessing()
        )

    def leave(self, seconds: float) -> NoReturn:
        """In the child: run its exit functions and flush within `seconds`, then end it."""
        if seconds > 0 and not self.may_leave():
            if (end := _uses_multiprocessing()) is not None:
                atexit.register(end)
            for send in _flushes():
                atexit.register(send, seconds)
            hurried: Callable[[], float | None] = lambda: HURRY if self._now() else None  # noqa: E731
            ProcessExit(seconds, hurried=hurried, notes=self._notes, stacks=self._stacks).leave(0)
        flush()
        os._exit(0)


def _forget_exit() -> None:
    """In a new child: remove the parent's exit functions; `weakref.finalize` registers its own
    again when it is used."""
    atexit._clear()
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]


def _uses_multiprocessing() -> Callable[[], object] | None:
    """The function that ends the child's multiprocessing processes, if it has any. It was
    registered by an import before the fork, and so removed."""
    util: Any = sys.modules.get("multiprocessing.util")
    process: Any = sys.modules.get("multiprocessing.process")
    if util is None or not (util._finalizer_registry or getattr(process, "_children", None)):
        return None
    found: Callable[[], object] = util._exit_function
    return found


def _flushes() -> list[Callable[[float], object]]:
    """The flush functions of error trackers and tracers; each takes its time limit in seconds."""
    found: list[Callable[[float], object]] = []
    sentry: Any = sys.modules.get("sentry_sdk")
    if sentry is not None:
        found.append(lambda seconds: _quietly(lambda: sentry.flush(timeout=seconds)))
    for name, (getter, variable) in _PROVIDERS.items():
        module: Any = sys.modules.get(name)
        if module is not None:
            ask = getattr(module, getter)
            # A provider that a variable names may not exist yet, and is slow to make.
            if variable in os.environ or hasattr(ask(), "force_flush"):
                found.append(functools.partial(_flush_provider, ask))
    return found


_PROVIDERS: Final = {
    "opentelemetry.trace": ("get_tracer_provider", "OTEL_PYTHON_TRACER_PROVIDER"),
    "opentelemetry.metrics": ("get_meter_provider", "OTEL_PYTHON_METER_PROVIDER"),
    "opentelemetry._logs": ("get_logger_provider", "_OTEL_PYTHON_LOGGER_PROVIDER"),
}


def _flush_provider(ask: Callable[[], Any], seconds: float) -> None:
    def send() -> None:
        flush_all = getattr(ask(), "force_flush", None)
        if flush_all is not None:
            flush_all(int(seconds * _MILLISECONDS))

    _quietly(send)


def _quietly(call: Callable[[], object]) -> None:
    with contextlib.suppress(Exception):
        call()
