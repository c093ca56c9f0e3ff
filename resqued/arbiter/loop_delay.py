"""How late the arbiter's loop turns, for `arbiter.loop`."""

from __future__ import annotations

import time
from typing import Final

from resqued.snapshots import LoopFacts

PERIOD: Final = 60.0
"""Seconds for which the longest delay is remembered, at least; at most twice as long."""


class LoopDelay:
    """Written by the loop, once a turn; read in any thread."""

    def __init__(self) -> None:
        self._turned = self._since = time.monotonic()
        self._longest = self._before = 0.0  # of this period, and of the one before

    def note(self, now: float, due: float) -> None:
        """The loop goes on. now, due: when, and when it should have at the latest; monotonic."""
        self._turned = now
        if now - self._since >= PERIOD:
            self._before, self._longest, self._since = self._longest, 0.0, now
        if now - due > self._longest:
            self._longest = now - due

    @property
    def facts(self) -> LoopFacts:
        return LoopFacts(self._turned, max(self._longest, self._before))
