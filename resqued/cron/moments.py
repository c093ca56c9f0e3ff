"""When a keeper of periodic jobs does what, and what it knows of Redis's clock."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Final

BEAT: Final = 2.0
"""Seconds between two heartbeats, which also tell of changes, of Redis's clock and of rivals."""

HEAR: Final = 60.0
"""Seconds after which Redis is told again which jobs are here, and RQ's tools what is next."""

CONTEND: Final = 5.0
"""The same for those of which another is in force: its arbiter may have died, and be silent for
long enough that another takes over."""

FORGET: Final = 3600.0
"""Seconds between two looks for what no arbiter has any more."""


@dataclass
class RedisClock:
    """Redis's clock, as far as it is known. offset: its seconds less those of the monotonic
    clock."""

    offset: float = 0.0

    def set(self, redis_time: float) -> None:
        """Note what Redis has just told, in Unix seconds."""
        self.offset = redis_time - time.monotonic()

    @property
    def now(self) -> float:
        """In Unix seconds."""
        return time.monotonic() + self.offset


@dataclass
class Moments:
    """When something is done next, on the monotonic clock. 0.0: at once."""

    beat: float = 0.0
    announce: float = 0.0
    hear: float = 0.0
    contend: float = math.inf
    forget: float = 0.0  # a reload may have taken jobs away

    @property
    def next(self) -> float:
        """The first of them; to forget has time."""
        return min(self.beat, self.announce, self.hear, self.contend)
