"""Taking a job, and giving it back, so that at no moment it is nowhere.

One script moves the id from the first queue that has one to that queue's intermediate list
(RQ's own) and claims it under the worker's name, in a hash without expiry. The transaction
that marks the job started removes both. So Redis alone tells what a dead worker had taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import redis
from redis.client import Pipeline
from rq.defaults import RQ_KEY_PREFIX
from rq.intermediate_queue import IntermediateQueue
from rq.queue import Queue
from rq.suspension import WORKERS_SUSPENDED
from rq.utils import as_text
from rq.worker import BaseWorker

CLAIMS: Final = f"{RQ_KEY_PREFIX}:resqued:claims"
"""Hash: a worker's name and pid, to `JOB_ID QUEUE_KEY` of the job it has taken but not begun."""

REST: Final = "*"
"""In a list of queues: all that RQ knows and the configuration does not name."""

_SUFFIX: Final = IntermediateQueue.get_intermediate_queue_key("")

# KEYS: claims, suspended, then queues in order of priority. ARGV: field, suffix.
# A claim that stands is answered again: the reply to the last call may have been lost.
_TAKE: Final = """
local claim = redis.call('HGET', KEYS[1], ARGV[1])
if claim then
    local id, queue = string.match(claim, '^(%S+) (.*)$')
    return {queue, id}
end
if redis.call('EXISTS', KEYS[2]) == 1 then
    return {'suspended', ''}
end
for i = 3, #KEYS do
    local id = redis.call('LMOVE', KEYS[i], KEYS[i] .. ARGV[2], 'LEFT', 'RIGHT')
    if id then
        redis.call('HSET', KEYS[1], ARGV[1], id .. ' ' .. KEYS[i])
        return {KEYS[i], id}
    end
end
return false
"""

# KEYS: claims. ARGV: field, suffix, 1 to put the job back or 0 to let it go.
# What is no longer in the intermediate list has been dealt with by RQ's maintenance.
_DROP: Final = """
local claim = redis.call('HGET', KEYS[1], ARGV[1])
if not claim then
    return false
end
redis.call('HDEL', KEYS[1], ARGV[1])
local id, queue = string.match(claim, '^(%S+) (.*)$')
if redis.call('LREM', queue .. ARGV[2], 1, id) == 0 or ARGV[3] == '0' then
    return false
end
redis.call('LPUSH', queue, id)
return id
"""


@dataclass(frozen=True)
class Taken:
    """A job that is ours: out of its queue, in the intermediate list, claimed."""

    job_id: str
    queue_key: str


class Suspended(Exception):
    """`rq suspend` is in force; nothing was taken."""


def claim_field(name: str, pid: int) -> str:
    """A worker's field of CLAIMS. With the pid, since a fixed name is used again."""
    return f"{name}:{pid}"


class Taker:
    """One worker's hand in its queues. Everything here may raise redis errors."""

    def __init__(self, connection: redis.Redis, field: str) -> None:
        self._connection = connection
        self._field = field
        self._take = connection.register_script(_TAKE)
        self._drop = connection.register_script(_DROP)

    def take(self, queues: Iterable[Queue]) -> Taken | None:
        """The next job of the first queue that has one; None when all are empty.

        Raises Suspended. After a redis error the job may be ours all the same: call it again.
        """
        keys = [CLAIMS, WORKERS_SUSPENDED, *(queue.key for queue in queues)]
        answer = self._take(keys=keys, args=[self._field, _SUFFIX])
        if answer is None:
            return None
        queue_key, job_id = map(as_text, answer)
        if queue_key == "suspended":
            raise Suspended
        return Taken(job_id, queue_key)

    def holds(self) -> bool:
        """Whether Redis says that we have taken something."""
        return bool(self._connection.hexists(CLAIMS, self._field))

    def put_back(self) -> str | None:
        """What we have taken to the front of its queue; its id, or None if there was nothing."""
        job_id = self._drop(keys=[CLAIMS], args=[self._field, _SUFFIX, 1])
        return as_text(job_id) if job_id else None

    def let_go(self) -> None:
        """Forget what we have taken: no such job exists any more."""
        self._drop(keys=[CLAIMS], args=[self._field, _SUFFIX, 0])

    def settle(self, taken: Taken, pipeline: Pipeline) -> None:
        """In the transaction that marks the job started: it is no longer merely taken."""
        pipeline.lrem(taken.queue_key + _SUFFIX, 1, taken.job_id)
        pipeline.hdel(CLAIMS, self._field)


def sweep(connection: redis.Redis) -> list[str]:
    """Put back what dead workers have claimed; the ids. A worker is dead when RQ says so.

    For machines that went away with arbiter and all; a worker's key outlives it by minutes.
    """
    ids = []
    for raw in connection.hkeys(CLAIMS):
        field = as_text(raw)
        name = field.rpartition(":")[0]
        key = BaseWorker.redis_worker_namespace_prefix + name
        if connection.exists(key) and not connection.hexists(key, "death"):
            continue
        if job_id := Taker(connection, field).put_back():
            ids.append(job_id)
    return ids


def known_queues(connection: redis.Redis, queue_class: type[Queue]) -> list[str]:
    """The names of all queues that RQ knows, sorted."""
    prefix = queue_class.redis_queue_namespace_prefix
    keys = map(as_text, connection.smembers(queue_class.redis_queues_keys))
    return sorted(key[len(prefix) :] for key in keys if key.startswith(prefix))


def expand(queues: Sequence[str], named: Iterable[str], known: Iterable[str]) -> list[str]:
    """`queues` with `*` replaced by the known ones that are named nowhere."""
    rest = sorted(set(known) - set(named) - set(queues))
    names: list[str] = []
    for name in queues:
        names.extend(rest if name == REST else [name])
    return names
