"""The last hour, for the plots of the page: samples, and marks for what happened."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from resqued import Arbiter, QueueCounts, WorkerState
from resqued_plugins.http.counts import Counts
from resqued_plugins.http.probes import is_ready

EVERY: Final = 15.0
"""Seconds between two samples."""

HOUR: Final = 3600.0

MARKS: Final = 200
"""The newest ones that are kept."""

OUTCOMES: Final = ("finished", "failed", "retried", "stopped", "interrupted")

COLUMNS: Final = ("time", *OUTCOMES, "waiting", "oldest", "busy", "ready")
"""Of a sample: seconds since the epoch; jobs since the start of the arbiter, by outcome; jobs that
wait in all queues; seconds that the oldest of them has waited, or null; workers."""

_LONGEST: Final = 500  # characters of a mark's text


class History:
    """Samples are taken in the server's thread, marks are set in the arbiter's loop."""

    def __init__(self) -> None:
        self._samples: deque[list[float | None]] = deque(maxlen=int(HOUR / EVERY) + 1)
        self._marks: deque[dict[str, Any]] = deque(maxlen=MARKS)
        self._next = 0.0

    def step(self, arbiter: Arbiter, counts: Counts) -> None:
        """Take a sample if it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY
        queues, workers = arbiter.queues.values(), arbiter.workers
        ages = [queue.oldest for queue in queues if queue.oldest is not None]
        sample: list[float | None] = [round(time.time(), 1)]
        sample += totals(counts.get(EVERY / 2)).values()
        sample += [sum(queue.waiting for queue in queues), max(ages) if ages else None]
        sample += [sum(worker.state is WorkerState.BUSY for worker in workers)]
        sample += [sum(map(is_ready, workers))]
        self._samples.append(sample)

    def mark(self, event: str, text: str) -> None:
        """Note what has happened. event: its name, as in the log."""
        self._marks.append({"time": time.time(), "event": event, "text": text[:_LONGEST]})

    def marks(self) -> list[dict[str, Any]]:
        """The oldest first."""
        return list(self._marks)

    def as_plain(self) -> dict[str, Any]:
        return {"columns": COLUMNS, "samples": list(self._samples), "marks": self.marks()}

    def restore(self, plain: Mapping[str, Any]) -> None:
        """What the image before has left."""
        if list(plain.get("columns", ())) == list(COLUMNS):
            self._samples.extend(plain["samples"])
        self._marks.extend(plain.get("marks", ()))


def totals(counts: Mapping[str, QueueCounts]) -> dict[str, int]:
    """The jobs of all queues, by outcome."""
    return {
        outcome: sum(getattr(each, outcome) for each in counts.values()) for outcome in OUTCOMES
    }
