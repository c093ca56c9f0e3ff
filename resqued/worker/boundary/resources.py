"""Threads, zombies and open descriptors that jobs leave in the process."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

_TASKS: Final = "/proc/self/task"
_GRACE: Final = 0.05
"""Seconds that a thread has to end before it is logged as left running."""

_SPARE: Final = 32
"""Free descriptors that the worker and the next job need at least."""


class Threads:
    """Threads that jobs have left running. Those that an import starts do not count."""

    def __init__(self) -> None:
        self.left = 0
        """Their number at the last look."""
        self._fd = -1
        self._base = 0
        self._last = 0
        self._base_tasks: set[str] = set()
        self._known: set[int | None] = set()
        self._logged: set[str] = set()

    def take(self) -> None:
        if self._fd < 0:
            with contextlib.suppress(OSError):
                self._fd = os.open(_TASKS, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._base = self._last = self._count()
        self._base_tasks = _tasks()
        self._known = {thread.ident for thread in threading.enumerate()}

    def adopt(self) -> None:
        """After a job that has imported modules: native threads are taken for the modules'."""
        self._base_tasks |= _tasks() - {str(each.native_id) for each in threading.enumerate()}
        self._base = len(self._base_tasks & _tasks())

    def _count(self) -> int:
        """The number of threads: the links of the task directory, except two."""
        try:
            return os.fstat(self._fd).st_nlink - 2
        except OSError:
            return threading.active_count()

    def look(self) -> list[str]:
        """Names of threads that a job has left, each kind once. Fast when there are no more."""
        count = self._count()
        if count > self._last:
            new = [thread for thread in threading.enumerate() if thread.ident not in self._known]
            unlogged = [thread for thread in new if _describe(thread) not in self._logged]
            until = time.monotonic() + _GRACE
            for thread in unlogged:
                thread.join(max(0.0, until - time.monotonic()))
            count = self._count()
        names: list[str] = []
        if count > self._last:
            names = self._new_names()
        self._last = count
        self.left = max(0, count - self._base)
        return names

    def _new_names(self) -> list[str]:
        python = threading.enumerate()
        found = [_describe(thread) for thread in python if thread.ident not in self._known]
        self._known |= {thread.ident for thread in python}
        for task in _tasks() - self._base_tasks - {str(thread.native_id) for thread in python}:
            with contextlib.suppress(OSError):  # it has ended
                found.append(f"{Path(_TASKS, task, 'comm').read_text().strip()} (native)")
        names = [name for name in dict.fromkeys(found) if name not in self._logged]
        self._logged.update(names)
        return names

    def close(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
        self._fd = -1


def _tasks() -> set[str]:
    try:
        return set(os.listdir(_TASKS))  # noqa: PTH208
    except OSError:
        return set()


def _describe(thread: threading.Thread) -> str:
    """What a thread runs. Not its name: that has a number in it."""
    target: Any = getattr(thread, "_target", None) or type(thread)
    name = getattr(target, "__qualname__", type(target).__name__)
    return f"{getattr(target, '__module__', None) or '?'}.{name}"


class Zombies:
    """Ended children that no job has waited for."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._awaited: set[int] = set()
        """Pids whose status a Popen object will ask for."""

    def forget(self) -> None:
        """There are none."""
        self._seen.clear()

    def reap(self) -> int:
        """Reap those that were there at the last look already; how many. Not those of a Popen
        object, or of a Process of multiprocessing: user code may still ask for their status."""
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            ended = None
        if ended is None:
            self._seen.clear()
            return 0
        try:
            there = _zombies()
        except OSError:  # out of descriptors
            return 0
        self._awaited &= there
        due = (there & self._seen) - self._awaited
        self._seen = there
        if not due:
            return 0
        self._awaited |= due & _awaited()
        due -= self._awaited
        for pid in due:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        return len(due)


def _zombies() -> set[int]:
    """This process's children that have ended. proc_pid_stat(5)."""
    parent, found = os.getpid(), set()
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with contextlib.suppress(OSError):
                words = Path("/proc", name, "stat").read_bytes().rpartition(b")")[2].split()
                if words[0] == b"Z" and int(words[1]) == parent:
                    found.add(int(name))
    return found


def _awaited() -> set[int]:
    """Pids of the children of all Popen objects."""
    kinds = tuple(
        kind
        for module in ("subprocess", "multiprocessing.popen_fork")
        if (kind := getattr(sys.modules.get(module), "Popen", None)) is not None
    )
    return {
        each.pid
        for each in gc.get_objects()
        if issubclass(type(each), kinds) and getattr(each, "returncode", 0) is None
    }


class FreeDescriptors:
    """Whether enough descriptors are free for the worker and for the next job."""

    def __init__(self) -> None:
        self._highest = sys.maxsize

    def take(self) -> None:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit == resource.RLIM_INFINITY or (free := _lowest_free()) is None:
            self._highest = sys.maxsize
        else:
            self._highest = limit - min(_SPARE, (limit - free) // 2)

    def is_left(self) -> bool:
        free = _lowest_free()
        return free is not None and free <= self._highest


def _lowest_free() -> int | None:
    """The number that a new descriptor would get; None if there is none."""
    try:
        fd = os.dup(2)
    except OSError:
        return None
    os.close(fd)
    return fd
