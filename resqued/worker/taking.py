"""Taking a job, and giving it back, so that at no moment it is nowhere.

One script moves the id from the first queue that has one to that queue's intermediate list
(RQ's own) and claims it for the worker, in a hash without expiry (`owning`). The transaction
that marks the job started removes both. So Redis alone tells what a dead worker had taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import redis
from redis.client import Pipeline
from rq.intermediate_queue import IntermediateQueue
from rq.queue import Queue
from rq.suspension import WORKERS_SUSPENDED
from rq.utils import as_text

from resqued.logs import logger
from resqued.worker.owning import CLAIMS, NO_ARBITER, Owner, worker_key

REST: Final = "*"
"""In a list of queues: all that RQ knows and the configuration does not name."""

_SUFFIX: Final = IntermediateQueue.get_intermediate_queue_key("")

# KEYS: claims, suspended, then queues in order of priority. ARGV: field, suffix.
# A claim that stands is answered again: the reply to the last call may have been lost.
_TAKE: Final = """
local claim = redis.call('HGET', KEYS[1], ARGV[1])
if claim then
    local id, queue = string.match(claim, '^(%S*) (.*)$')
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
# What is no longer in the intermediate list has been dealt with by RQ's maintenance, whose note
# of when it first saw the id there (`_first_seen`) goes too: the next time counts anew.
_DROP: Final = """
local claim = redis.call('HGET', KEYS[1], ARGV[1])
if not claim then
    return false
end
redis.call('HDEL', KEYS[1], ARGV[1])
local id, queue = string.match(claim, '^(%S*) (.*)$')
redis.call('DEL', queue .. ARGV[2] .. ':first_seen:' .. id)
if redis.call('LREM', queue .. ARGV[2], 1, id) == 0 or ARGV[3] == '0' then
    return false
end
redis.call('LPUSH', queue, id)
return id
"""

# KEYS: claims. ARGV: field, suffix, what jobs' keys begin with, limit.
# Puts back as above, when its worker has died with the job in hand, maybe of it: deaths are
# counted. At the limit it stays claimed, for the caller to fail it; then the answer ends with 1.
_COUNT: Final = """
local claim = redis.call('HGET', KEYS[1], ARGV[1])
if not claim then
    return false
end
local id, queue = string.match(claim, '^(%S*) (.*)$')
local job = ARGV[3] .. id
local deaths = redis.call('EXISTS', job) == 1 and redis.pcall('HINCRBY', job, 'deaths', 1)
if type(deaths) == 'number' and deaths >= tonumber(ARGV[4]) then
    return {queue, id, 1}
end
redis.call('HDEL', KEYS[1], ARGV[1])
if redis.call('LREM', queue .. ARGV[2], 1, id) == 0 then
    return false
end
redis.call('LPUSH', queue, id)
return {queue, id, 0}
"""


@dataclass(frozen=True)
class Taken:
    """A job that is ours: out of its queue, in the intermediate list, claimed."""

    job_id: str
    queue_key: str


class Suspended(Exception):
    """`rq suspend` is in force; nothing was taken."""


class Taker:
    """One worker's hand in its queues. Everything here may raise redis errors."""

    def __init__(self, connection: redis.Redis, owner: Owner) -> None:
        self.connection = connection
        self._field = str(owner)
        self._take = connection.register_script(_TAKE)
        self._drop = connection.register_script(_DROP)
        self._count = connection.register_script(_COUNT)

    def take(self, queues: Iterable[Queue]) -> Taken | None:
        """The next job of the first queue that has one; None when all are empty.

        Raises Suspended. After a redis error the job may be ours all the same: call it again.
        """
        keys = [CLAIMS, WORKERS_SUSPENDED, *(queue.key for queue in queues)]
        while (answer := self._take(keys=keys, args=[self._field, _SUFFIX])) is not None:
            try:
                queue_key, job_id = map(as_text, answer)
            except UnicodeDecodeError:
                logger.error(f"dropped {answer[1]!r} from {answer[0]!r}: RQ has no such job ids")
                self.let_go()
                continue
            if queue_key == "suspended":
                raise Suspended
            return Taken(job_id, queue_key)
        return None

    def holds(self) -> bool:
        """Whether Redis says that we have taken something."""
        return bool(self.connection.hexists(CLAIMS, self._field))

    def put_back(self) -> str | None:
        """What we have taken to the front of its queue; its id, or None if there was nothing."""
        job_id = self._drop(keys=[CLAIMS], args=[self._field, _SUFFIX, 1])
        return job_id.decode(errors="replace") if isinstance(job_id, bytes) else job_id

    def put_back_after_death(self, jobs: str, limit: int) -> tuple[Taken, bool] | None:
        """The same for a worker that died with it. True: that was its last death, the job is
        still claimed and has to be buried. jobs: what the keys of jobs begin with."""
        answer = self._count(keys=[CLAIMS], args=[self._field, _SUFFIX, jobs, limit])
        if not answer:
            return None
        queue_key, job_id, last = answer
        return Taken(as_text(job_id), as_text(queue_key)), bool(last)

    def let_go(self) -> None:
        """Forget what we have taken: no such job exists any more."""
        self._drop(keys=[CLAIMS], args=[self._field, _SUFFIX, 0])

    def settle(self, taken: Taken, pipeline: Pipeline) -> None:
        """In the transaction that marks the job started: it is no longer merely taken."""
        pipeline.lrem(taken.queue_key + _SUFFIX, 1, taken.job_id)
        pipeline.delete(_first_seen(taken))
        pipeline.hdel(CLAIMS, self._field)


def spare_claimed(connection: redis.Redis) -> None:
    """Right before RQ's maintenance, which fails what it sees twice in an intermediate list.

    What is claimed has an owner, and is put back when that one dies.
    """
    notes = []
    for raw in connection.hvals(CLAIMS):
        job_id, _, queue_key = as_text(raw).partition(" ")
        notes.append(_first_seen(Taken(job_id, queue_key)))
    if notes:
        connection.delete(*notes)


def _first_seen(taken: Taken) -> str:
    """The key of RQ's note; `IntermediateQueue.get_first_seen_key`."""
    return f"{taken.queue_key}{_SUFFIX}:first_seen:{taken.job_id}"


def sweep(connection: redis.Redis) -> list[str]:
    """Put back what dead workers without an arbiter have claimed; the ids.

    A worker is dead when RQ says so. For those on their own: an arbiter's steward knows better.
    """
    ids = []
    for raw in connection.hkeys(CLAIMS):
        try:
            owner = Owner.parse(as_text(raw))
        except ValueError:
            continue
        key = worker_key(owner.name)
        registered = connection.exists(key) and not connection.hexists(key, "death")
        if registered or owner.arbiter != NO_ARBITER:
            continue
        if job_id := Taker(connection, owner).put_back():
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
