"""Rows of the boundary's table that are read and set by one call each."""

from __future__ import annotations

import gc
import locale
import logging
import os
import resource
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from typing import Any, Final, Protocol

from resqued.signals import handler_of

_SIGNALS: Final = tuple(sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}))
_LIMITS: Final = (
    resource.RLIMIT_AS,
    resource.RLIMIT_CPU,
    resource.RLIMIT_FSIZE,
    resource.RLIMIT_NOFILE,
    resource.RLIMIT_NPROC,
)
"""Limits that can affect the worker or the next job. Each takes half a microsecond."""


class Row(Protocol):
    """One part of the state that is restored after a job."""

    name: str
    by_import: bool
    """Whether a module that a job imports may set it for good."""

    def take(self) -> None:
        """Save the state."""

    def adopt(self) -> None:
        """Save the state after a job that has imported modules. Only if `by_import`."""

    def differs(self) -> bool:
        """Whether it has to be restored. Asked after each job, so it must be fast."""

    def restore(self) -> None:
        """Restore it. Raises OSError or ValueError if that fails."""


class ProcessValue:
    """A value that is read and set by one call each."""

    def __init__(
        self,
        name: str,
        read: Callable[[], Any],
        write: Callable[[Any], object],
        *,
        by_import: bool = True,
    ) -> None:
        self.name = name
        self.by_import = by_import
        self._read = read
        self._write = write
        self._kept: Any = None

    def take(self) -> None:
        self._kept = self._read()

    def adopt(self) -> None:
        self.take()

    def differs(self) -> bool:
        return bool(self._read() != self._kept)

    def restore(self) -> None:
        self._write(self._kept)


class Path:
    """`sys.path`: the same list, with the same items; jobs change it, or replace the list."""

    name = "sys.path"
    by_import = True

    def __init__(self) -> None:
        self.take()

    def take(self) -> None:
        self._list = sys.path
        self._kept = self._list.copy()

    def adopt(self) -> None:
        if isinstance(sys.path, list):
            self.take()
        else:
            self.restore()

    def differs(self) -> bool:
        return sys.path is not self._list or self._list != self._kept

    def restore(self) -> None:
        self._list[:] = self._kept
        sys.path = self._list


class Umask:
    """The file mode creation mask. umask(2) reads it only by setting it."""

    name = "umask"
    by_import = False

    def __init__(self) -> None:
        self._kept = 0

    def take(self) -> None:
        self._kept = os.umask(0o077)
        os.umask(self._kept)

    def adopt(self) -> None:
        self.take()

    def differs(self) -> bool:
        return os.umask(self._kept) != self._kept  # which restores it

    def restore(self) -> None:
        os.umask(self._kept)


class Handlers:
    """Signal handlers, except those that the worker sets itself. An ignored SIGCHLD is not kept,
    whatever set it: every program that is started from then on would seem to end with status 0."""

    name = "signal handlers"
    by_import = True

    def __init__(self, own: frozenset[int]) -> None:
        self._signals = tuple(signum for signum in _SIGNALS if signum not in own)
        self._kept: list[Any] = []

    def _read(self) -> list[Any]:
        return list(map(handler_of, self._signals))

    def take(self) -> None:
        self._kept = self._read()
        at = self._signals.index(signal.SIGCHLD)
        if self._kept[at] == signal.SIG_IGN:
            self._kept[at] = signal.SIG_DFL
        self.restore()

    def adopt(self) -> None:
        self.take()

    def differs(self) -> bool:
        return self._read() != self._kept

    def restore(self) -> None:
        for signum, handler, kept in zip(self._signals, self._read(), self._kept, strict=True):
            if handler != kept and kept is not None:  # None: set by C code
                signal.signal(signum, kept)


def _read_limits() -> tuple[tuple[int, int], ...]:
    return tuple(map(resource.getrlimit, _LIMITS))


def _write_limits(limits: tuple[tuple[int, int], ...]) -> None:
    for limit, (soft, hard) in zip(_LIMITS, limits, strict=True):
        resource.setrlimit(limit, (soft, hard))


def _write_filters(filters: list[Any]) -> None:
    warnings.resetwarnings()  # also clears the caches of the old filters
    warnings.filters[:] = filters  # type: ignore[index]


def disabled() -> Row:
    """The level up to which `logging.disable` has disabled logging."""
    return ProcessValue("logging.disable", lambda: logging.root.manager.disable, logging.disable)


def limits() -> Row:
    """Limits that setrlimit(2) may have lowered: memory, time, files, descriptors, processes."""
    return ProcessValue("resource limits", _read_limits, _write_limits, by_import=False)


def values() -> list[Row]:
    """The other rows."""
    return [
        Path(),
        EventLoop(),
        ProcessValue("warnings.filters", lambda: list(warnings.filters), _write_filters),
        ProcessValue("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
        ProcessValue("garbage collector", _read_collector, _write_collector),
        ProcessValue("default socket timeout", socket.getdefaulttimeout, socket.setdefaulttimeout),
        ProcessValue("trace function", sys.gettrace, sys.settrace),
        ProcessValue("profile function", sys.getprofile, sys.setprofile),
        ProcessValue("locale", _read_locale, lambda kept: locale.setlocale(locale.LC_ALL, kept)),
        ProcessValue(
            "priority",
            lambda: os.getpriority(os.PRIO_PROCESS, 0),
            lambda nice: os.setpriority(os.PRIO_PROCESS, 0, nice),
            by_import=False,
        ),
        ProcessValue(
            "process group", os.getpgrp, lambda group: os.setpgid(0, group), by_import=False
        ),
        ProcessValue("group", os.getegid, os.setegid, by_import=False),
        ProcessValue("user", os.geteuid, os.seteuid, by_import=False),
    ]


def _read_collector() -> tuple[bool, tuple[int, int, int]]:
    return gc.isenabled(), gc.get_threshold()


def _write_collector(kept: tuple[bool, tuple[int, int, int]]) -> None:
    enabled, threshold = kept
    gc.set_threshold(*threshold)
    gc.enable() if enabled else gc.disable()


def _read_locale() -> str:
    return locale.setlocale(locale.LC_ALL)


class EventLoop:
    """Whether `asyncio.get_event_loop()` returns a loop that works, in the main thread.

    `asyncio.run` leaves none, and prevents that one is made; other jobs close theirs. The next job
    would fail, and would not in a process of its own. A loop that is open stays: what a module
    keeps from job to job (a client, a session) may belong to it.
    """

    name = "event loop"
    by_import = True

    def __init__(self) -> None:
        self._usable = True
        self._open = False

    def take(self) -> None:
        local = _local()
        self._usable = not _is_spent(local)
        self._open = self._usable and getattr(local, "_loop", None) is not None

    def adopt(self) -> None:
        if not self.differs():
            self.take()
        else:  # a closed loop is of no use, also one of a module
            self.restore()

    def differs(self) -> bool:
        return self._usable and _is_spent(_local())

    def restore(self) -> None:
        """Restore the initial state; if there was a loop, make a new one."""
        policy = _policy()
        policy._local = type(policy)._Local()
        if self._open:
            policy.set_event_loop(policy.new_event_loop())


def _policy() -> Any:
    return getattr(sys.modules.get("asyncio.events"), "_event_loop_policy", None)


def _local() -> Any:
    """Where Python's policy, or one derived from it, has this thread's loop; or None."""
    policy = _policy()
    return None if policy is None or not hasattr(policy, "_Local") else policy._local


def _is_spent(local: Any) -> bool:
    if local is None:
        return False
    loop = local._loop
    if loop is None:
        return bool(getattr(local, "_set_called", False))
    return bool(loop.is_closed())
