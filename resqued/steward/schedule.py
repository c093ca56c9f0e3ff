"""RQ's scheduler, a step at a time: one an arbiter, with the locks that RQ's own have."""

from __future__ import annotations

import logging
import time
from typing import Any, Final

import redis
from rq.queue import Queue
from rq.scheduler import RQScheduler
from rq.utils import parse_names

from resqued import linux
from resqued.broker.queues import REST, expand, known_queues
from resqued.broker.schedule import enqueue_due
from resqued.config import Config

_LOCKS: Final = 10.0  # seconds between two attempts to get the locks that others have
_BEAT: Final = 15.0  # seconds between two heartbeats; the locks live for 61


class Schedule:
    """Enqueues what is due, of all queues of the configuration. Runs in the steward.

    Whoever has a queue's lock does; when that one dies another gets it a minute later.
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
        """Once a second. Raises redis errors."""
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
        """Leave the locks to others. Raises redis errors."""
        if self._born:
            self._scheduler.release_locks()
            self._scheduler.register_death()

    def _find_queues(self) -> None:
        if REST in self._named:
            known = known_queues(self._connection, Queue)
            self._scheduler._queue_names = set(parse_names(expand(self._named, self._named, known)))
