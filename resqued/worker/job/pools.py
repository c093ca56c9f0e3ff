"""Process pools in a job that was cut: let go of, before their processes are ended.

A `multiprocessing.Pool` starts another process for each that ends, and its finalizer, at the
collection of the pool or the exit of the process, waits for a lock that a killed process may hold:
for ever. So the threads that keep such pools are told to stop, and their finalizers are taken back.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Container
from typing import Any, Final

_FINALIZER: Final = "_terminate_pool"


def let_go(pids: Container[int]) -> None:
    """Of the pools of this process to which one of these processes belongs.

    Runs in a worker that has left its job. What it touches is private to the library (CPython 3.11
    to 3.14, billiard, multiprocess), and may be missing.
    """
    for name, module in list(sys.modules.items()):
        if name.endswith(".util"):
            registry = getattr(module, "_finalizer_registry", None)
            for finalizer in list(registry.values()) if isinstance(registry, dict) else ():
                with contextlib.suppress(Exception):
                    _let_go(finalizer, pids)


def _let_go(finalizer: Any, pids: Container[int]) -> None:
    callback = finalizer._callback
    if getattr(callback, "__name__", "") != _FINALIZER:
        return
    lists = [argument for argument in finalizer._args if isinstance(argument, list)]
    if not any(process.pid in pids for processes in lists for process in processes):
        return
    word = vars(sys.modules[callback.__self__.__module__])["TERMINATE"]
    threads = [argument for argument in finalizer._args if isinstance(argument, threading.Thread)]
    finalizer.cancel()
    for thread in threads:
        thread._state = word  # type: ignore[attr-defined]
