"""The registrations of workers in RQ, kept to restore them.

A worker's key that has expired, was evicted or flushed is completed within one heartbeat, and so
are the sets in which RQ lists workers.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import redis
from rq.utils import now, utcformat
from rq.version import VERSION
from rq.worker import WorkerStatus
from rq.worker_registration import REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY

from resqued import linux
from resqued.broker.bad_data import text_of
from resqued.broker.owner import GENERATION, OWNER, owner_of, worker_key
from resqued.broker.queues import REST
from resqued.config import Config
from resqued.scoreboard import Record

CHECKED: Final = 100
"""Sets of RQ's, one a queue, that one heartbeat of a worker looks into."""

_LEARN_AGAIN: Final = 6  # rounds; workers that serve `*` come to serve more


class WorkerRegistrations:
    """The registrations of one arbiter's workers. Runs in the steward. identity: the arbiter's."""

    def __init__(self, connection: redis.Redis, config: Config, identity: str) -> None:
        self._connection = connection
        self._config = config
        self._identity = identity
        self._rest = any(queue.name == REST for queue in config.queues)
        self._known: dict[str, dict[bytes, Any]] = {}  # by name
        self._slots: dict[str, int] = {}
        self._rounds = 0
        self._served: dict[str, tuple[str, ...]] = {}  # by name of a worker

    def to_learn(self, workers: Sequence[tuple[int, Record]]) -> list[Record]:
        """Workers whose keys are read in this round. workers: slots and records of all that
        live."""
        self._rounds += 1
        again = self._rest and self._rounds % _LEARN_AGAIN == 0
        self._slots = {record.name: slot for slot, record in workers}
        self._known = {
            record.name: self._known[record.name]
            for _, record in workers
            if self._is_of(record, self._known.get(record.name, {}))
        }
        self._served = {name: self._served[name] for name in self._served.keys() & self._known}
        return [record for _, record in workers if again or record.name not in self._known]

    def learn(self, record: Record, fields: Mapping[bytes, Any]) -> None:
        """Keep the fields of a worker's key, if they are complete."""
        whole = b"birth" in fields and b"queues" in fields and b"death" not in fields
        if whole and self._is_of(record, fields):
            self._known[record.name] = dict(fields)
            self._served.pop(record.name, None)

    @staticmethod
    def _is_of(record: Record, fields: Mapping[bytes, Any]) -> bool:
        """Whether the key is of this worker: another may have had the name before."""
        return fields.get(b"pid") == str(record.pid).encode()

    def queues_of(self, record: Record) -> tuple[str, ...]:
        """The queues that a worker serves; until its key was read, by the shares of the
        settings."""
        served = self._served.get(record.name)
        if served is None:
            served = self._queues_of(record)
            if record.name in self._known:
                self._served[record.name] = served
        return served

    def _queues_of(self, record: Record) -> tuple[str, ...]:
        known = self._known.get(record.name)
        if known is not None:
            return tuple(filter(None, (text_of(known[b"queues"]) or "").split(",")))
        slot = self._slots.get(record.name, 1)
        count = max(self._config.workers, slot)
        return tuple(
            queue.name
            for queue in self._config.queues
            if queue.name != REST and slot <= queue.share(count)
        )

    def checked(self, names: tuple[str, ...]) -> list[str]:
        """Keys of RQ's sets of workers, for these queues, that are checked in this round."""
        if len(names) > CHECKED:
            at = self._rounds * CHECKED % len(names)
            names = (names + names)[at : at + CHECKED]
        return [WORKERS_BY_QUEUE_KEY % name for name in names]

    def again(self, records: list[Record], *, suspended: bool) -> None:
        """Register workers again. Raises redis errors."""
        if not records:
            return
        with self._connection.pipeline() as pipeline:
            for record in records:
                key = worker_key(record.name)
                resting = WorkerStatus.SUSPENDED if suspended else WorkerStatus.IDLE
                state = WorkerStatus.BUSY if record.phase.holds_job else resting
                fields = {
                    **self._all_of(record),
                    b"state": state,
                    b"last_heartbeat": utcformat(now()),
                }
                pipeline.hdel(key, "death")
                pipeline.hset(key, mapping=fields)
                pipeline.expire(key, self._config.worker_ttl + 60)
                pipeline.sadd(REDIS_WORKER_KEYS, key)
                for name in self.queues_of(record):
                    pipeline.sadd(WORKERS_BY_QUEUE_KEY % name, key)
            pipeline.execute()

    def _all_of(self, record: Record) -> dict[Any, Any]:
        """All fields of a worker's key, as `BaseWorker.serialize` makes them."""
        if record.name in self._known:
            return self._known[record.name]
        lived = timedelta(seconds=max(0.0, time.monotonic() - record.started))
        return {
            b"birth": utcformat(now() - lived),
            b"queues": ",".join(self.queues_of(record)),
            b"pid": record.pid,
            b"hostname": linux.host_name(),
            b"ip_address": "unknown",
            b"version": VERSION,
            b"python_version": platform.python_version(),
            OWNER.encode(): str(owner_of(record, self._identity)),
            GENERATION.encode(): str(record.generation),
        }
