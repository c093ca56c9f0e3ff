"""resqued: a process manager for RQ workers.

This module is what a plugin author imports. It stays light: the arbiter and every
plugin load it, so it pulls in neither rq nor redis. What it offers is loaded when it is first
used: every command imports this module, and some have to answer at once. A start loads all of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pluggy import HookimplMarker, HookspecMarker

    from resqued.config import Config
    from resqued.protocols import Arbiter, Draft, Duties, Duty, Options, Request
    from resqued.snapshots import (
        CronFacts,
        Exit,
        Generation,
        LoopFacts,
        Outcome,
        QueueCounts,
        QueueFacts,
        RedisFacts,
        ScheduleFacts,
        Worker,
        WorkerState,
    )
    from resqued.verdicts import ConfigError, Dump, Fail, Kill, Terminate, Verdict, VetoFork, Wait

    hookimpl: HookimplMarker
    """Marks a function or method as the implementation of a hook."""

    hookspec: HookspecMarker
    """Marks a hook that a plugin declares for other plugins, in its `add_hookspecs(manager)`."""

__version__ = "0.1.0"

_MODULES: Final = ("config", "protocols", "snapshots", "verdicts")


def __getattr__(name: str) -> Any:
    """What is used for the first time. Raises AttributeError for what there is not."""
    if name not in __all__:
        raise AttributeError(f"module 'resqued' has no attribute {name!r}")
    load()
    return globals()[name]


def load() -> None:
    """Load everything. An arbiter does at its start, since the code on disk may change later."""
    import pluggy

    found: dict[str, Any] = {
        "hookimpl": pluggy.HookimplMarker("resqued"),
        "hookspec": pluggy.HookspecMarker("resqued"),
    }
    for module in _MODULES:
        found.update(vars(importlib.import_module(f"resqued.{module}")))
    globals().update({name: found[name] for name in __all__ if name in found})


__all__ = [
    "Arbiter",
    "Config",
    "ConfigError",
    "CronFacts",
    "Draft",
    "Dump",
    "Duties",
    "Duty",
    "Exit",
    "Fail",
    "Generation",
    "Kill",
    "LoopFacts",
    "Options",
    "Outcome",
    "QueueCounts",
    "QueueFacts",
    "RedisFacts",
    "Request",
    "ScheduleFacts",
    "Terminate",
    "Verdict",
    "VetoFork",
    "Wait",
    "Worker",
    "WorkerState",
    "__version__",
    "hookimpl",
    "hookspec",
]
