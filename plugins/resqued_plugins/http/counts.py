"""`arbiter.counts`, which takes some milliseconds with a thousand workers, read once for all."""

from __future__ import annotations

import time
from collections.abc import Mapping

from resqued import Arbiter, QueueCounts


class Counts:
    """Used in the server's thread alone."""

    def __init__(self, arbiter: Arbiter) -> None:
        self._arbiter = arbiter
        self._counts: Mapping[str, QueueCounts] = {}
        self._read = float("-inf")

    def get(self, age: float) -> Mapping[str, QueueCounts]:
        """By queue, at most `age` seconds old."""
        now = time.monotonic()
        if now - self._read > age:
            self._counts, self._read = self._arbiter.counts, now
        return self._counts
