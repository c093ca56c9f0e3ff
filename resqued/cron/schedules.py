"""When a job runs, as `register` takes it: each value checked. Raises ValueError with a remedy."""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final
from zoneinfo import ZoneInfo

from resqued.cron import zones
from resqued.cron.misfire import Misfire
from resqued.cron.ticks import CronTicks

LONGEST: Final = 10 * 365 * 86400.0
"""Seconds: ten years."""

_HOUR: Final = 3600.0
_DAY: Final = 86400.0
_YEAR: Final = 366 * _DAY

_SAMPLE: Final = 12
"""So many ticks are looked at for the period of a cron expression."""

_SAMPLED_FROM: Final = datetime(2024, 1, 1, tzinfo=UTC).timestamp() - 1.0
"""Always the same moment, so that the default of grace is the same on each host and day."""

_RANDOM: Final = re.compile(r"(?:^|[\s,])([hr])(?:\(|/|[\s,]|$)", re.IGNORECASE)
"""croniter's `R`: another value each time that it is read; and `H`, which follows from a name."""


_WORDS: Final = frozenset(
    {"@annually", "@daily", "@hourly", "@midnight", "@monthly", "@weekly", "@yearly"}
)
"""Instead of five fields."""


def seconds(name: str, value: Any, least: float, most: float = LONGEST) -> float:
    """A number of seconds within bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise ValueError(f"{name}={value!r} is not a number of seconds")
    if value < least:
        raise ValueError(f"{name}={value!r} is too short; at least {least:g} seconds")
    if value > most:
        raise ValueError(f"{name}={value!r} is too long; at most {most:g} seconds")
    return float(value)


def expression(value: Any, now: float) -> str:
    """A cron expression that comes some day, after `now`."""
    if not isinstance(value, str):
        raise ValueError(f"cron={value!r} is not text; write '0 3 * * *'")
    text = " ".join(value.split())
    if found := _RANDOM.search(text):
        raise ValueError(
            f"cron expression {text!r}: {found[1]} is a value that nobody chooses; write a number,"
            " and jitter=SECONDS to spread the load"
        )
    if text.startswith("@") and text.lower() not in _WORDS:
        raise ValueError(f"cron expression {text!r} is none of {', '.join(sorted(_WORDS))}")
    if not text.startswith("@") and len(text.split()) not in (5, 6, 7):
        raise ValueError(
            f"cron expression {text!r} has {len(text.split())} fields; write five, '0 3 * * *', or"
            " a sixth for seconds, a seventh for years"
        )
    _check_expression(text, now)
    return text


@functools.lru_cache(maxsize=1024)
def _check_expression(text: str, now: float) -> None:
    CronTicks(text, ZoneInfo("UTC")).check(now)


@functools.lru_cache(maxsize=1024)
def cron_period(text: str) -> float:
    """The smallest distance of some of its ticks, in seconds, with no daylight saving time."""
    ticks, moment = CronTicks(text, ZoneInfo("UTC")), _SAMPLED_FROM
    found: list[float] = []
    while len(found) < _SAMPLE and (tick := ticks.after(moment)) is not None:
        found.append(moment := tick)
    return min((after - before for before, after in pairwise(found)), default=LONGEST)


@functools.lru_cache(maxsize=1024)
def shortest_period(text: str, zone: str, now: float) -> float:
    """The same in its zone, where the changes of daylight saving of a year bring ticks nearer."""
    ticks, found = CronTicks(text, ZoneInfo(zone)), cron_period(text)
    for change in zones.changes(zone, now, now + _YEAR):
        back = found
        while (moment := ticks.after(change - back)) is not None and moment >= change:
            if back > _YEAR:
                break
            back *= 2
        while moment is not None and moment <= change + found:
            following = ticks.after(moment)
            if following is not None:
                found = min(found, following - moment)
            moment = following
    return found


def usual_grace(period: float) -> float:
    """One period, at least an hour and at most a day."""
    return min(max(period, _HOUR), _DAY)


def zone(value: Any) -> str:
    """The name of a zone."""
    name = value.key if isinstance(value, ZoneInfo) else value
    if not isinstance(name, str) or not name:
        raise ValueError(f"timezone={value!r} is not the name of a zone; write 'Europe/Berlin'")
    return zones.check(name)


def misfire(value: Any) -> Misfire:
    """What becomes of missed ticks."""
    try:
        return Misfire(value)
    except ValueError:
        words = ", ".join(repr(each.value) for each in Misfire)
        raise ValueError(f"misfire={value!r} is none of {words}") from None


def overlap(value: Any) -> bool:
    """Whether jobs may overlap."""
    if value not in ("allow", "skip"):
        raise ValueError(f"overlap={value!r} is none of 'allow', 'skip'")
    return bool(value == "allow")
