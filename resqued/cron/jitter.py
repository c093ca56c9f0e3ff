"""Ticks that are due a little later each, so that jobs of one schedule do not start together.
Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from resqued.cron.ticks import Ticks


@dataclass(frozen=True)
class DueTicks:
    """The moments at which the ticks of a job are due: `ticks` after `since`, each put off by up to
    `jitter` seconds, which is less than their distance, so that they keep their order.

    By how much follows from the job's key and the tick: all arbiters agree. A tick is named by what
    it is without it, so that another jitter neither repeats nor skips one.
    """

    ticks: Ticks
    key: str
    jitter: float
    since: float

    def after(self, moment: float) -> float | None:
        """The first due moment later than this one; None: there is none."""
        tick = self.ticks.after(max(self.since, moment - self.jitter))
        while tick is not None and tick + self._delay(tick) <= moment:
            tick = self.ticks.after(tick)
        return None if tick is None else tick + self._delay(tick)

    def tick_of(self, due: float) -> float:
        """The tick that is due at this moment."""
        tick = self.ticks.after(max(self.since, due - self.jitter - 0.001))
        while tick is not None and tick + self._delay(tick) < due:
            tick = self.ticks.after(tick)
        return due if tick is None else tick

    def _delay(self, tick: float) -> float:
        steps = int(self.jitter * 1000)
        if steps == 0:
            return 0.0
        digest = hashlib.sha1(f"{self.key} {tick:.3f}".encode(), usedforsecurity=False).digest()
        return int.from_bytes(digest[:8], "big") % steps / 1000
