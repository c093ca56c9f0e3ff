"""Enqueues dependents that are ready but in no queue.

RQ enqueues them in a second step, which is lost if the worker dies before it. RQ's own maintenance
repeats the step much later.
"""

from __future__ import annotations

from typing import Any, Final

import redis
from rq.queue import Queue
from rq.registry import ReadyJobRegistry

from resqued.broker.bad_data import is_data_error, log_once
from resqued.broker.queues import known_queues
from resqued.broker.registries import enqueue_ready

EVERY: Final = 15.0
"""Seconds between two looks. A dependent that two looks have seen is late."""


class Dependents:
    """Looks at all queues that RQ knows. Runs in the steward."""

    def __init__(self, connection: redis.Redis, serializer: str | None) -> None:
        self._connection = connection
        self._serializer = serializer
        self._seen: set[str] = set()  # queues that had some at the last look

    def look(self) -> None:
        """Enqueue those that are late. Raises redis errors."""
        names = known_queues(self._connection, Queue)
        with self._connection.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.zcard(ReadyJobRegistry.key_template.format(name))
            counts = pipeline.execute(raise_on_error=False)
        for name, count in zip(names, counts, strict=True):
            self._note_refusal(name, count)
        waiting = {
            name
            for name, count in zip(names, counts, strict=True)
            if count and isinstance(count, int)
        }
        late, self._seen = waiting & self._seen, waiting
        for name in sorted(late):
            enqueue_ready(
                ReadyJobRegistry(name, connection=self._connection, serializer=self._serializer)
            )

    def _note_refusal(self, name: str, answer: Any) -> None:
        if not isinstance(answer, Exception):
            return
        if not is_data_error(answer):
            raise answer
        log_once(f"ready {name}", f"ready jobs of queue={name} cannot be read: {answer}")
