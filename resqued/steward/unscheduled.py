"""Where no scheduler runs: say when jobs wait for one. A delayed retry would wait for ever.

Runs in the steward of an arbiter with `--no-scheduler`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import redis
from rq.queue import Queue
from rq.registry import ScheduledJobRegistry
from rq.scheduler import RQScheduler

from resqued.broker.queues import REST, expand, known_queues
from resqued.config import Config
from resqued.logs import logger

EVERY: Final = 20.0
"""Seconds between two looks. A scheduler's lock on a queue lives for 61."""


class Unscheduled:
    """Looks for scheduled jobs of queues on which no scheduler has a lock."""

    def __init__(self, connection: redis.Redis, config: Config) -> None:
        self._connection = connection
        self._named = [queue.name for queue in config.queues]
        self._told: set[str] = set()

    def look(self) -> None:
        """One warning a queue, as long as jobs wait there unattended. Raises redis errors."""
        names = self._queues()
        with self._connection.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.zcard(ScheduledJobRegistry(name, connection=self._connection).key)
                pipeline.exists(RQScheduler.get_locking_key(name))
            answers = pipeline.execute(raise_on_error=False)
        waiting = set(_unattended(names, answers))
        for name in sorted(waiting - self._told):
            logger.warning(
                f"queue={name} has scheduled jobs (delayed retries are some) and no scheduler:"
                " leave --no-scheduler out, here or where another serves the queue"
            )
        self._told = waiting

    def _queues(self) -> list[str]:
        if REST not in self._named:
            return self._named
        return expand(self._named, self._named, known_queues(self._connection, Queue))


def _unattended(names: list[str], answers: list[object]) -> Iterable[str]:
    """answers: two for each name, how many are scheduled and whether there is a lock; an error,
    for a key of another type, is no number."""
    for name, count, locked in zip(names, answers[::2], answers[1::2], strict=True):
        if isinstance(count, int) and count and not locked:
            yield name
