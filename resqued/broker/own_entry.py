"""What Redis says of a worker, looked at by itself while it has nothing to do.

Its key and the lists that it stands in may have been flushed or evicted, and made anew in part by
its own writes; or somebody has taken it for dead. A server that went back in time may say that it
runs what is long over.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final

from redis.client import Pipeline
from rq import worker_registration
from rq.utils import now
from rq.worker import BaseWorker
from rq.worker_registration import REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY

from resqued.broker.oddities import is_of_the_data, text_of
from resqued.broker.owner import RUNNING, Owner, entry
from resqued.logs import logger

_MOST: Final = 100  # lists, one a queue, that are looked into


class OwnEntry:
    """Of one worker. Methods raise redis errors."""

    def __init__(self, worker: BaseWorker, owner: Owner) -> None:
        self._worker = worker
        self._owner = owner

    def look(self) -> list[tuple[str, str]]:
        """Register again if that is needed. Job and execution ids of what it is said to run."""
        worker = self._worker
        names = worker.queue_names()[:_MOST]
        with worker.connection.pipeline(transaction=False) as pipeline:
            pipeline.smembers(worker.executions_key)
            pipeline.hmget(worker.key, "birth", "death")
            pipeline.sismember(REDIS_WORKER_KEYS, worker.key)
            for name in names:
                pipeline.sismember(WORKERS_BY_QUEUE_KEY % name, worker.key)
            members, key, *listed = pipeline.execute(raise_on_error=False)
        for answer in (members, key, *listed):
            if isinstance(answer, Exception) and not is_of_the_data(answer):
                raise answer
        born, dead = (False, False) if isinstance(key, Exception) else key
        if not born or dead or not all(listed):
            self._register(delete=isinstance(key, Exception))
        if isinstance(members, Exception):
            return []
        return self._ours([text for text in map(text_of, members) if text])

    def _ours(self, keys: list[str]) -> list[tuple[str, str]]:
        """Of the executions of a worker of our name those that are ours: another may have borne
        the name before, whose death is seen to."""
        if not keys:
            return []
        notes: Any = self._worker.connection.hmget(RUNNING, keys)
        found = []
        for key, note in zip(keys, notes, strict=True):
            with contextlib.suppress(ValueError):
                if note is not None and entry(note)[0] == self._owner:
                    job_id, _, execution_id = key.rpartition(":")
                    found.append((job_id, execution_id))
        return found

    def _register(self, *, delete: bool) -> None:
        worker: Any = self._worker
        logger.info("registered again: what redis said of this worker was not whole")
        with worker.connection.pipeline() as pipeline:
            if delete:
                pipeline.delete(worker.key)
            self.write(pipeline)
            pipeline.execute()

    def write(self, pipeline: Pipeline) -> None:
        """All that `register_birth` writes, of a worker that was born already, and its state."""
        worker: Any = self._worker
        worker.last_heartbeat = now()
        told = {**worker.serialize(), "state": worker.get_state()}
        pipeline.hdel(worker.key, "death")
        pipeline.hset(worker.key, mapping=told)
        worker_registration.register(worker, pipeline)
        pipeline.expire(worker.key, worker.worker_ttl + 60)
