"""Clocks that differ: RQ judges by wall clocks what is overdue, each machine by its own."""

from __future__ import annotations

import time
from typing import Final

import redis

from resqued import linux
from resqued.logs import logger

TOLERATED: Final = 5.0
"""Seconds by which our clock may differ from that of Redis before it is named."""

DANGEROUS: Final = 30.0
"""Seconds ahead from which we do not have RQ's registries cleaned: it would call jobs of others
abandoned that are not."""

_AGAIN: Final = 3600.0  # seconds between two warnings


class Clock:
    """Our machine's, held against that of Redis. Runs in the steward."""

    def __init__(self, connection: redis.Redis) -> None:
        self.ahead = 0.0
        """Seconds; negative when behind."""
        self._connection = connection
        self._told: float | None = None

    @property
    def may_judge(self) -> bool:
        """Whether what looks overdue to us is."""
        return self.ahead < DANGEROUS

    def compare(self) -> None:
        """One look. Raises redis errors."""
        before = time.time()
        seconds, micros = self._connection.time()
        self.ahead = (before + time.time()) / 2 - (int(seconds) + int(micros) / 1e6)
        now = time.monotonic()
        if abs(self.ahead) <= TOLERATED or (self._told is not None and now < self._told + _AGAIN):
            return
        self._told = now
        way = "ahead of" if self.ahead > 0 else "behind"
        text = f"the clock of {linux.host_name()} is {abs(self.ahead):.0f} s {way} that of redis"
        if not self.may_judge:
            text += "; no maintenance is done here until it is right"
        logger.warning(f"{text}; jobs of other machines may look abandoned. Synchronize both (NTP)")
