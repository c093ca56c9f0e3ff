"""RQ's scheduler as steps of the steward's loop; without it, a check for jobs that wait for one."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any, Final

import redis
from rq.queue import Queue
from rq.registry import ScheduledJobRegistry
from rq.scheduler import RQScheduler
from rq.utils import parse_names

from resqued import linux
from resqued.broker.queues import REST, expand, known_queues
from resqued.broker.schedule import enqueue_due
from resqued.config import Config
from resqued.logs import logger

CHECK_EVERY: Final = 20.0
"""Seconds between two checks for scheduled jobs without a scheduler. A scheduler's lock on a queue
lives for 61."""

_LOCKS: Final = 10.0  # seconds between two attempts to get the locks that other schedulers hold
_BEAT: Final = 15.0  # seconds between two heartbeats; the locks live for 61


class Schedule:
    """Enqueues scheduled jobs that are due, of all configured queues. Runs in the steward.

    It uses the locks of RQ's own scheduler: one scheduler holds a queue's lock, and when that one
    dies another gets it a minute later.
    """

    def __init__(self, connection: redis.Redis, config: Config) -> None:
        self._connection = connection
        self._named = [queue.name for queue in config.queues]
        level = logging.getLogger("rq").level
        scheduler: Any = RQScheduler(
            self._named, connection=connection, logging_level=level, serializer=config.serializer
        )
        scheduler._connection = connection  # else it makes a second one
        scheduler.hostname = linux.host_name()
        self._scheduler = scheduler
        self._locks_at = self._beat_at = 0.0
        self._born = False

    def step(self) -> None:
        """Enqueue what is due; called once a second. Raises redis errors."""
        scheduler, now = self._scheduler, time.monotonic()
        if not self._born:
            scheduler.register_birth()
            self._born = True
        if now >= self._locks_at:
            self._locks_at = now + _LOCKS
            self._find_queues()
            if scheduler._queue_names != scheduler.acquired_locks:
                scheduler.acquire_locks()
        if now >= self._beat_at:
            self._beat_at = now + _BEAT
            scheduler.heartbeat()
        enqueue_due(self._connection, scheduler.acquired_locks, scheduler.serializer)

    def stop(self) -> None:
        """Release the locks. Raises redis errors."""
        if self._born:
            self._scheduler.release_locks()
            self._scheduler.register_death()

    def _find_queues(self) -> None:
        if REST in self._named:
            known = known_queues(self._connection, Queue)
            self._scheduler._queue_names = set(parse_names(expand(self._named, self._named, known)))


class Unscheduled:
    """Warns of scheduled jobs in queues that no scheduler has locked: they would wait for ever.

    Runs in the steward of an arbiter with `--no-scheduler`.
    """

    def __init__(self, connection: redis.Redis, config: Config) -> None:
        self._connection = connection
        self._named = [queue.name for queue in config.queues]
        self._logged: set[str] = set()  # queues of which the log has a warning

    def check(self) -> None:
        """Log one warning a queue for as long as jobs wait there. Raises redis errors."""
        names = self._queues()
        with self._connection.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.zcard(ScheduledJobRegistry.key_template.format(name))
                pipeline.exists(RQScheduler.get_locking_key(name))
            answers = pipeline.execute(raise_on_error=False)
        waiting = set(_unattended(names, answers))
        for name in sorted(waiting - self._logged):
            logger.warning(
                f"queue={name} has scheduled jobs (delayed retries are some) and no scheduler:"
                " leave --no-scheduler out, here or where another serves the queue"
            )
        self._logged = waiting

    def _queues(self) -> list[str]:
        if REST not in self._named:
            return self._named
        return expand(self._named, self._named, known_queues(self._connection, Queue))


def _unattended(names: list[str], answers: list[object]) -> Iterable[str]:
    """Queues with scheduled jobs and no lock.

    answers: two for each name, the number of scheduled jobs and whether there is a lock. A key of
    another type gives an error in place of the number.
    """
    for name, count, locked in zip(names, answers[::2], answers[1::2], strict=True):
        if isinstance(count, int) and count and not locked:
            yield name
