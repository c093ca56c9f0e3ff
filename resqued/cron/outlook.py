"""When a periodic job is due next, by what Redis has of it. For those who did not load it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from resqued.broker.cron_control import KeptJob
from resqued.cron.jitter import DueTicks
from resqued.cron.ticks import CronTicks, IntervalTicks, Ticks

UNHEARD: Final = 90.0
"""Seconds after which no living arbiter has a job: each tells once a minute which it has."""


def next_due(
    definition: Mapping[str, Any], key: str, first: float | None, last: float | None
) -> float | None:
    """Unix seconds; in the past if it is late. None: never, or its definition cannot be read.

    definition: `Definition.shown`. first: the first tick of an interval. last: the last tick that
    is done with."""
    try:
        ticks = _ticks(definition, first or 0.0)
        jitter = float(definition.get("jitter") or 0.0)
        since = (last or 0.0) + 0.0005
        return DueTicks(ticks, key, jitter, since).after(since)
    except (TypeError, ValueError, KeyError, ArithmeticError, OSError):
        return None


def next_of(job: KeptJob) -> float | None:
    """The same of a job that Redis has; None also while it is paused or disabled, or nobody has
    it."""
    if job.pause is not None or not job.definition.get("enabled", True) or job.heard > UNHEARD:
        return None
    return next_due(job.definition, job.key, job.first, job.last)


@lru_cache(maxsize=1024)
def _cron_ticks(expression: str, zone: str) -> CronTicks:
    """One object for each, since it is costly to parse an expression."""
    return CronTicks(expression, ZoneInfo(zone))


def _ticks(definition: Mapping[str, Any], first: float) -> Ticks:
    if definition.get("cron") is not None:
        return _cron_ticks(str(definition["cron"]), str(definition["timezone"]))
    return IntervalTicks(first, float(definition["interval"]))
