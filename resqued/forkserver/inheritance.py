"""Makes a child forget what only its parent may end: helper processes, temporary files, pools.

Libraries register what they will end when the interpreter exits. A child inherits these registries,
and if it acted on them it would end the application's helpers for all processes. So a new child
empties them. The objects are kept, unreachable, for the child's life, since the parent still uses
what they stand for. What is made after the fork is registered as usual.

These are the places, all private to their libraries (CPython 3.11 to 3.14, loky 3.5; billiard and
multiprocess copy multiprocessing's), and each may be missing:

* `weakref.finalize._registry`: TemporaryDirectory and the like;
* `multiprocessing.util._finalizer_registry`, `multiprocessing.process._children`;
* `_threads_queues`, `_threads_wakeups` of executors (concurrent.futures, loky);
* the helper processes of `multiprocessing.resource_tracker` and `multiprocessing.forkserver`, which
  end when no process holds their pipe any more;
* loky's reusable executor, whose threads the child does not have, and joblib's folder for it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import weakref
from collections.abc import Iterator, MutableMapping
from types import ModuleType
from typing import Any, Final

_MAPPINGS: Final = ("_finalizer_registry", "_threads_queues", "_threads_wakeups")
_NAMES: Final = frozenset(
    {
        *_MAPPINGS,
        "_children",
        "_resource_tracker",
        "_forkserver",
        "_executor_storage",
        "_executor",
    }
)

_kept: Final[list[Any]] = []  # in a child: forgotten objects, which must not be destroyed


class Inheritance:
    """Finds and empties these registries. Lives in the fork server."""

    def __init__(self) -> None:
        self._modules: list[ModuleType] = []
        self._known = 0

    def survey(self) -> None:
        """Find the modules that have such registries. Runs in the parent before a fork, since
        looking at every module writes to shared memory.
        """
        if self._known == len(sys.modules):
            return
        self._known = len(sys.modules)
        self._modules = [
            module
            for module in list(sys.modules.values())
            if isinstance(module, ModuleType) and not _NAMES.isdisjoint(vars(module))
        ]

    def forget(self) -> None:
        """Empty the registries. Runs in a child, first."""
        _empty(vars(weakref.finalize).get("_registry"))
        for module in self._modules:
            _forget(module)


def _forget(module: ModuleType) -> None:
    names = vars(module)
    for name in _MAPPINGS:
        _empty(names.get(name))
    name = module.__name__
    if name.endswith(".process"):
        _empty(names.get("_children"))
    elif name.endswith("resource_tracker"):
        _let_go(names.get("_resource_tracker"), "_fd", "_pid")
    elif name.endswith(".forkserver"):
        helper = names.get("_forkserver")
        _let_go(helper, "_forkserver_alive_fd", "_forkserver_pid", "_forkserver_address")
    elif name.endswith("reusable_executor"):
        storage: Any = names.get("_executor_storage")
        if getattr(storage, "executor", None) is not None:
            _forget_executor(storage.executor)
            storage.executor = None
        if names.get("_executor") is not None:  # loky before 3.5
            _forget_executor(names["_executor"])
            names["_executor"] = None


def _forget_executor(executor: Any) -> None:
    """joblib's also has a folder, and removes it by atexit functions of its own."""
    _kept.append(executor)
    folders = getattr(executor, "_temp_folder_manager", None)
    for remove in list(getattr(folders, "_finalizers", {}).values()):
        atexit.unregister(remove)


def _empty(notes: object) -> None:
    """Empty a mapping or a set in place, and keep what it held."""
    if isinstance(notes, MutableMapping):
        _kept.append(list(notes.items()))
        notes.clear()
    elif isinstance(notes, set):
        _kept.append(list(notes))
        notes.clear()


def _let_go(helper: object, pipe: str, *facts: str) -> None:
    """Close this copy of the pipe that keeps a helper process alive; a new one starts if needed."""
    fd = getattr(helper, pipe, None)
    if not isinstance(fd, int):
        return
    with contextlib.suppress(OSError):
        os.close(fd)
    for name in (pipe, *facts):
        setattr(helper, name, None)


def trackers() -> Iterator[Any]:
    """The resource trackers that this process has started since its fork."""
    for name, module in list(sys.modules.items()):
        if name.endswith("resource_tracker"):
            tracker = getattr(module, "_resource_tracker", None)
            if isinstance(getattr(tracker, "_fd", None), int):
                yield tracker
