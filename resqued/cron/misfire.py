"""Which ticks of a periodic job are enqueued now. Pure; moments are Unix seconds."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from resqued.cron.ticks import Ticks

MOST: Final = 100
"""Ticks that are enqueued at once with Misfire.ALL."""

PUNCTUAL: Final = 60.0
"""Seconds by which a tick may be late and is no misfire: another arbiter takes over after 15."""

_CLOSE: Final = 0.001  # seconds; ticks are further apart

_FUTURE: Final = 3600.0
"""Seconds beyond now, from which on a last tick is a mistake: of a clock, or of restored data."""


class Misfire(enum.StrEnum):
    """What becomes of ticks that were missed, since no arbiter was there."""

    ONCE = "once"  # the last of them runs, if it is not older than the grace
    SKIP = "skip"  # none runs
    ALL = "all"  # each runs that is not older than the grace, at most MOST


@dataclass(frozen=True)
class MisfireDecision:
    """run: ticks to enqueue, the oldest first. last: the last tick that is done with. missed: ticks
    that are left out; with at_least there are more. brought_back: the last tick that
    was known lay far in the future."""

    run: tuple[float, ...] = ()
    last: float = 0.0
    missed: int = 0
    at_least: bool = False
    brought_back: bool = False


def decide(
    ticks: Ticks, last: float, now: float, misfire: Misfire, grace: float
) -> MisfireDecision:
    """last: the last tick that was done with, or the moment from which on ticks count. grace:
    seconds."""
    if is_mistaken(last, now):
        return MisfireDecision(last=now, brought_back=True)
    first = ticks.after(last)
    if first is None or first > now:
        return MisfireDecision(last=last)
    allowed = PUNCTUAL if misfire is Misfire.SKIP else max(grace, PUNCTUAL)
    following = ticks.after(first)
    if following is None or following > now:  # nearly always
        in_time = now - first <= allowed
        return MisfireDecision((first,) if in_time else (), first, 0 if in_time else 1)
    newest = _newest(ticks, following, now)
    begin = max(last, now - allowed - 1.0)
    kept = _last_ones(ticks, begin, now) if misfire is Misfire.ALL else [newest]
    run = tuple(tick for tick in kept if now - tick <= allowed)
    count = sum(1 for _ in islice(_between(ticks, last, now), MOST + len(run) + 1))
    return MisfireDecision(run, newest, count - len(run), count > MOST + len(run))


def is_mistaken(last: float, now: float) -> bool:
    """Whether a last tick lies so far in the future that it can be none."""
    return last > now + _FUTURE


def _newest(ticks: Ticks, known: float, now: float) -> float:
    """The last tick until now, from that tick on. Halves the time, since there may be years of
    ticks."""
    newest = begin = known
    end = now
    while end - begin > _CLOSE:
        middle = (begin + end) / 2
        tick = ticks.after(middle)
        if tick is not None and tick <= now:
            begin, newest = middle, tick
        else:
            end = middle
    return newest


def _last_ones(ticks: Ticks, begin: float, now: float) -> list[float]:
    """The newest MOST ticks of those after `begin` until now."""
    seconds = PUNCTUAL
    while True:
        since = max(begin, now - seconds)
        found = deque(_between(ticks, since, now), maxlen=MOST)
        if len(found) == MOST or since == begin:
            return list(found)
        seconds *= 2


def _between(ticks: Ticks, begin: float, end: float) -> Iterator[float]:
    tick = ticks.after(begin)
    while tick is not None and tick <= end:
        yield tick
        tick = ticks.after(tick)
