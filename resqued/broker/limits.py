"""Limits of jobs that run at once in the whole fleet (`--queue high=20/fleet`).

The scripts that take a job decide (`full.lua`). RQ's registry of started jobs is the count, so the
jobs of workers that know no limits count too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import redis
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE
from rq.intermediate_queue import IntermediateQueue
from rq.queue import Queue
from rq.registry import StartedJobRegistry

_QUEUE: Final = Queue.redis_queue_namespace_prefix


@dataclass(frozen=True)
class QueueLimit:
    """The limit of one queue. The other fields are keys in Redis. guests: executions of workers
    that do not obey limits: while one has no job, room is left for it."""

    most: int
    started: str
    intermediate: str
    guests: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, most: int) -> QueueLimit:
        """name: of the queue."""
        key = IntermediateQueue.get_intermediate_queue_key(_QUEUE + name)
        return cls(most, StartedJobRegistry.key_template.format(name), key)


class QueueLimits:
    """The limits that one worker or steward obeys. limits: by name of the queue."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self._by_key = {_QUEUE + name: QueueLimit.of(name, most) for name, most in limits.items()}

    def get(self, key: str) -> QueueLimit | None:
        """The limit of the queue with this key."""
        return self._by_key.get(key)

    def encode(self, keys: Sequence[str]) -> str:
        """What the scripts get for the queues with these keys; empty: none has a limit."""
        found: dict[str, list[Any]] = {}
        for key in keys:
            if (limit := self._by_key.get(key)) is not None:
                found[key] = [limit.most, limit.started, limit.intermediate, *limit.guests]
        return json.dumps(found) if found else ""

    def room(self, connection: redis.Redis, names: Iterable[str]) -> dict[str, int]:
        """How many jobs may be taken now of those of these queues that have a limit; as `full.lua`
        counts. Raises redis errors."""
        limits = {name: limit for name in names if (limit := self._by_key.get(_QUEUE + name))}
        if not limits:
            return {}
        with connection.pipeline(transaction=False) as pipeline:
            for limit in limits.values():
                pipeline.zcount(limit.started, f"({time.time()}", "+inf")
                pipeline.llen(limit.intermediate)
                for key in limit.guests:
                    pipeline.scard(key)
            answers = iter(pipeline.execute(raise_on_error=False))
        found: dict[str, int] = {}
        for name, limit in limits.items():
            started, waiting = _number(next(answers)), _number(next(answers))
            free = sum(not _number(next(answers)) for _ in limit.guests)
            found[name] = max(0, limit.most - started - waiting - free)
        return found

    def set_guests(self, guests: Mapping[str, Iterable[str]]) -> bool:
        """Take over who does not obey: names of workers by that of the queue. Whether it has
        changed."""
        before = dict(self._by_key)
        for key, limit in before.items():
            names = guests.get(key.removeprefix(_QUEUE), ())
            keys = tuple(WORKER_EXECUTIONS_KEY_TEMPLATE.format(name) for name in names)
            self._by_key[key] = replace(limit, guests=keys)
        return self._by_key != before


def _number(answer: Any) -> int:
    """An error, as of a key of another type, counts as none."""
    return answer if isinstance(answer, int) else 0
