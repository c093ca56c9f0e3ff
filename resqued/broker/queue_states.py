"""How queues are at this moment: what waits and runs in them, who serves them, which are paused."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import redis
from rq.queue import Queue
from rq.registry import StartedJobRegistry

from resqued.broker.fleet import FleetEntry
from resqued.broker.owner import QUEUE
from resqued.broker.pauses import Pause, read_pauses
from resqued.broker.queues import known_queues


@dataclass(frozen=True)
class QueueState:
    """One queue. waiting, started: jobs; None: Redis has something else under that key. workers:
    of all arbiters that are heard of. limit: of jobs at once in the whole fleet; the lowest, if
    arbiters differ. pause: None if it is not paused."""

    name: str
    waiting: int | None
    started: int | None
    workers: int
    limit: int | None
    pause: Pause | None


def serving(fleet: Iterable[FleetEntry]) -> Counter[str]:
    """How many workers of resqued serve each queue, of the arbiters that are not silent."""
    served: Counter[str] = Counter()
    for entry in fleet:
        if not entry.is_silent:
            served.update(entry.queues)
    return served


def read_queues(
    connection: redis.Redis, fleet: Collection[FleetEntry], names: Collection[str] = ()
) -> list[QueueState]:
    """These queues; without names all that RQ knows, that are served, or paused. Raises redis
    errors."""
    pauses, served = read_pauses(connection), serving(fleet)
    every = sorted(names or {*known_queues(connection, Queue), *served, *pauses})
    with connection.pipeline(transaction=False) as pipeline:
        for name in every:
            pipeline.llen(QUEUE + name)
            pipeline.zcount(StartedJobRegistry.key_template.format(name), time.time(), "+inf")
        answers: list[Any] = pipeline.execute(raise_on_error=False) if every else []
    counts = [answer if isinstance(answer, int) else None for answer in answers]
    return [
        QueueState(
            name,
            counts[2 * at],
            counts[2 * at + 1],
            served[name],
            min((entry.limits[name] for entry in fleet if name in entry.limits), default=None),
            pauses.get(name),
        )
        for at, name in enumerate(every)
    ]
