"""resqued: a process manager for RQ workers.

This module is what a plugin author imports. It stays light: the arbiter and every
plugin load it, so it pulls in neither rq nor redis.
"""

from __future__ import annotations

from pluggy import HookimplMarker, HookspecMarker

from resqued.config import Config
from resqued.protocols import Arbiter, Draft, Options, Request
from resqued.snapshots import (
    Exit,
    Generation,
    LoopFacts,
    Outcome,
    QueueCounts,
    QueueFacts,
    RedisFacts,
    Worker,
    WorkerState,
)
from resqued.verdicts import ConfigError, Dump, Fail, Kill, Terminate, Verdict, VetoFork, Wait

__version__ = "0.1.0"

hookimpl = HookimplMarker("resqued")
"""Marks a function or method as the implementation of a hook."""

hookspec = HookspecMarker("resqued")
"""Marks a hook that a plugin declares for other plugins, in its `add_hookspecs(manager)`."""

__all__ = [
    "Arbiter",
    "Config",
    "ConfigError",
    "Draft",
    "Dump",
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
