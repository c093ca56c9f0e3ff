"""What is due of the periodic jobs of one arbiter. Pure; moments are Unix seconds of Redis's
clock."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from resqued.cron.definition import Definition
from resqued.cron.jitter import DueTicks
from resqued.cron.misfire import decide, is_mistaken

STANDBY: Final = 0.5
"""Seconds after a tick at which an arbiter looks that did not enqueue the one before: who did has
died if it is not done by then."""

_ROUNDED: Final = 0.0005
"""Seconds by which a tick may be later than its text says."""


@dataclass(frozen=True)
class TickDecision:
    """What becomes of ticks that are due. last, becomes: the last tick, as texts. run: the ticks to
    enqueue, in milliseconds, the oldest first. due: when the newest of them is due; 0.0: there is
    none."""

    last: bytes
    becomes: bytes
    run: tuple[int, ...]
    due: float
    missed: int
    at_least: bool
    brought_back: bool


@dataclass(frozen=True)
class Entry:
    """A periodic job and what Redis has of it, as far as this arbiter knows.

    ours: whether its definition here is in force. held: the scheduler of RQ's that has a job of
    this name; empty: none. keeper: the arbiter that has enqueued the last tick.
    """

    definition: Definition
    ours: bool = False
    first: float = 0.0
    last: bytes = b""
    paused: bool = False
    keeper: str = ""
    held: str = ""

    @property
    def is_active(self) -> bool:
        """Whether this arbiter enqueues its ticks."""
        return self.ours and self.definition.enabled and not self.paused

    def next_due(self, arbiter: str, now: float) -> float:
        """When this arbiter looks next; infinite: not before something changes."""
        if not self.is_active:
            return math.inf
        if is_mistaken(self.since, now):
            return 0.0
        due = self._first_due
        return due if self.keeper in ("", arbiter) else due + STANDBY

    @cached_property
    def _first_due(self) -> float:
        due = self._ticks().after(self.since + _ROUNDED)
        return math.inf if due is None else due

    def decide(self, now: float) -> TickDecision | None:
        """What becomes of the ticks that are due by now; None: there is none."""
        definition, ticks, since = self.definition, self._ticks(), self.since + _ROUNDED
        found = decide(ticks, since, now, definition.misfire, definition.grace)
        if found.last == since:
            return None
        run, missed = found.run, found.missed
        if self.held:
            run, missed = (), 0  # the other scheduler does it
        elif run and not definition.overlap:
            run, missed = run[-1:], missed + len(run) - 1
        last = found.last if found.brought_back else ticks.tick_of(found.last)
        return TickDecision(
            self.last,
            text_of_tick(last),
            tuple(round(ticks.tick_of(due) * 1000) for due in run),
            run[-1] if run else 0.0,
            missed,
            found.at_least,
            found.brought_back,
        )

    def moved(self, last: bytes, *, paused: bool, keeper: str) -> Entry:
        """The same, with what Redis has by now."""
        return replace(self, last=last, paused=paused, keeper=keeper)

    @property
    def since(self) -> float:
        """The last tick that is done with; 0.0 if what Redis has is no number."""
        try:
            last = float(self.last)
        except ValueError:
            return 0.0
        return last if math.isfinite(last) else 0.0

    def _ticks(self) -> DueTicks:
        ticks = self.definition.ticks(self.first)
        return DueTicks(ticks, self.definition.key, self.definition.jitter, self.since + _ROUNDED)


def text_of_tick(tick: float) -> bytes:
    """A tick as Redis has it."""
    return f"{tick:.3f}".encode()
