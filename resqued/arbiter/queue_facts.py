"""What the arbiter knows of queues and of Redis: the steward's facts, and its own workers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from resqued.config import Config
from resqued.core.state import WorkerHandle
from resqued.facts import Facts
from resqued.scoreboard import Scoreboard
from resqued.scoreboard.counts import Totals
from resqued.shares import limits_of
from resqued.snapshots import QueueCounts, QueueFacts, RedisFacts, ScheduleFacts

STALE: Final = 90.0
"""Seconds after which what the steward has measured is not believed any more."""

_REST: Final = "*"


class FactsReader:
    """Reads them from the scoreboard, in any thread. Runs in the arbiter."""

    def __init__(self, board: Scoreboard) -> None:
        self._board = board
        self._totals = Totals(board)
        self._read: tuple[int, Facts | None] = (0, None)

    def facts(self) -> Facts | None:
        """As measured last; None before the first time, and when no steward has for long."""
        area = self._board.facts
        sequence = area.sequence
        if sequence != self._read[0]:
            self._read = sequence, Facts.from_plain(area.read())
        facts = self._read[1]
        return facts if facts and time.monotonic() - facts.measured < STALE else None

    def redis(self) -> RedisFacts | None:
        """For `arbiter.redis`."""
        facts = self.facts()
        if facts is None:
            return None
        return RedisFacts(
            answers=facts.answers,
            since=facts.since,
            error=facts.error,
            round_trip=facts.round_trip if facts.answers else None,
            suspended=facts.suspended,
            scheduler=facts.scheduler,
        )

    def schedule(self) -> ScheduleFacts | None:
        """For `arbiter.schedule`."""
        facts = self.facts()
        return None if facts is None else facts.schedule

    def queues(self, workers: Iterable[WorkerHandle], config: Config) -> Mapping[str, QueueFacts]:
        """For `arbiter.queues`. workers: all that live."""
        facts = self.facts()
        if facts is None:
            return {}
        paused = _paused(self._board.paused.read())
        served, busy = count(workers)
        named = {queue.name for queue in config.queues}
        limits = limits_of(config.queues)
        found = {
            queue.name: QueueFacts(
                name=queue.name,
                waiting=queue.waiting,
                oldest=queue.oldest,
                workers=served[queue.name] + (served[_REST] if queue.name not in named else 0),
                busy=busy[queue.name],
                jobs_per_minute=queue.per_minute or 0.0,
                paused=queue.name in paused,
                started=queue.started,
                scheduled=queue.scheduled,
                failed=queue.failed,
                unserved=queue.unserved,
                limit=limits.get(queue.name),
            )
            for queue in facts.queues
        }
        if facts.others:
            name = f"other ({facts.others})"
            known = sum(busy[queue] for queue in found)
            found[name] = QueueFacts(
                name,
                facts.others_waiting,
                None,
                served[_REST],
                max(0, busy.total() - known),
                0.0,
                paused=False,
                started=None,
            )
        return found

    def counts(self) -> Mapping[str, QueueCounts]:
        """For `arbiter.counts`."""
        return self._totals.read()


def count(workers: Iterable[WorkerHandle]) -> tuple[Counter[str], Counter[str]]:
    """By queue: how many workers serve it, and how many have a job of it in hand."""
    served: Counter[str] = Counter()
    busy: Counter[str] = Counter()
    alike: Counter[tuple[str, ...]] = Counter()
    for worker in workers:
        if worker.pid is None:
            continue
        alike[worker.queues] += 1
        if worker.seen.phase.holds_job:
            busy[worker.seen.queue] += 1
    for queues, workers_alike in alike.items():  # with many queues far cheaper than each by itself
        for queue in queues:
            served[queue] += workers_alike
    return served, busy


def _paused(plain: Mapping[str, Any]) -> set[str]:
    names = plain.get("queues")
    return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()
