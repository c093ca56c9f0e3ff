"""The heartbeats of all workers, in one round trip.

They vouch for "the process exists", as those of RQ's worker do for its horse. A script for each
worker extends what is there and makes nothing anew, so a heartbeat that meets a death or an
outcome on its way cannot bring back what these have removed.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any, Final

import redis
from redis.exceptions import NoScriptError
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE, Execution, ExecutionRegistry
from rq.job import Job
from rq.registry import StartedJobRegistry
from rq.suspension import WORKERS_SUSPENDED
from rq.utils import as_text, now, utcformat
from rq.worker import WorkerStatus
from rq.worker_registration import REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY

from resqued import linux
from resqued.config import Config
from resqued.scoreboard import Phase, Record, Scoreboard
from resqued.worker.owning import ARBITERS, worker_key
from resqued.worker.performing import NO_TIMEOUT

LEASE: Final = 300
"""Seconds for which a job with a timeout counts as running after a heartbeat, at least."""

GONE: Final = 0
"""A worker's key does not exist, though the worker does."""

# KEYS: worker, its executions; with a job also: execution, wip, the job's executions, job.
# ARGV: now as RQ writes it, the worker's TTL; with a job also: now in seconds, TTL, JOB:EXECUTION,
# EXECUTION. Answers 0: no such worker; -1: it has been declared dead; 1: done.
_BEAT: Final = """
local function extend(key, ttl)
    local left = redis.call('TTL', key)
    if left >= 0 and left < ttl then
        redis.call('EXPIRE', key, ttl)
    end
end
local function postpone(key, member, score)
    local stands = redis.call('ZSCORE', key, member)
    if stands and tonumber(stands) < score then
        redis.call('ZADD', key, score, member)
    end
end
if redis.call('EXISTS', KEYS[1]) == 0 then
    return 0
end
if redis.call('HEXISTS', KEYS[1], 'death') == 1 then
    return -1
end
redis.call('HSET', KEYS[1], 'last_heartbeat', ARGV[1])
extend(KEYS[1], tonumber(ARGV[2]))
extend(KEYS[2], tonumber(ARGV[2]))
if #KEYS > 2 and redis.call('EXISTS', KEYS[3]) == 1 then
    local now, ttl = tonumber(ARGV[3]), tonumber(ARGV[4])
    redis.call('HSET', KEYS[3], 'last_heartbeat', ARGV[3])
    extend(KEYS[3], ttl)
    postpone(KEYS[4], ARGV[5], now + ttl)
    postpone(KEYS[5], ARGV[6], now + ttl + 60)
    extend(KEYS[5], ttl + 60)
    if redis.call('EXISTS', KEYS[6]) == 1 then
        redis.call('HSET', KEYS[6], 'last_heartbeat', ARGV[1])
    end
end
return 1
"""


class Heartbeats:
    """Those of one arbiter and its workers. Runs in the steward. Methods raise redis errors."""

    def __init__(
        self,
        connection: redis.Redis,
        board: Scoreboard,
        config: Config,
        identity: str,
        arbiter: int,
    ) -> None:
        self.every = min(10.0, config.dead_after / 4)
        """Seconds between two rounds."""
        self._connection = connection
        self._board = board
        self._config = config
        self._identity = identity
        self._arbiter = arbiter
        self._sha = ""
        self._known: dict[str, dict[Any, Any]] = {}  # what each worker said of itself at its birth

    def look(self) -> bool:
        """Whether `rq suspend` is in force."""
        return bool(self._connection.exists(WORKERS_SUSPENDED))

    def beat(self) -> bool:
        """One round; whether `rq suspend` is in force."""
        records = [record for _, record in living(self._board)]
        suspended, answers = self._beat_all(records)
        lost = [record for record in records if answers[record.name] == GONE]
        self._register_again([record for record in lost if record.name in self._known], suspended)
        self._known = {
            record.name: self._known[record.name]
            for record in records
            if record.name in self._known
        }
        return suspended

    def sign_off(self) -> None:
        """Our arbiter leaves: nobody has to wait for a heartbeat of it."""
        self._connection.hdel(ARBITERS, self._identity)

    def _beat_all(self, records: list[Record]) -> tuple[bool, dict[str, int]]:
        """Answers by worker name; new workers are got to know."""
        new = [record.name for record in records if record.name not in self._known]
        while True:
            if not self._sha:
                self._sha = str(self._connection.script_load(_BEAT))
            with self._connection.pipeline(transaction=False) as pipeline:
                pipeline.exists(WORKERS_SUSPENDED)
                pipeline.hset(ARBITERS, self._identity, self._entry())
                for name in new:
                    pipeline.hgetall(worker_key(name))
                for record in records:
                    keys, arguments = self._beat_of(record)
                    pipeline.evalsha(self._sha, len(keys), *keys, *arguments)
                try:
                    suspended, _, *rest = pipeline.execute()
                except NoScriptError:  # the server was restarted, or flushed
                    self._sha = ""
                    continue
            found = {name: told for name, told in zip(new, rest, strict=False) if told}
            self._known |= {name: told for name, told in found.items() if b"death" not in told}
            names = [record.name for record in records]
            return bool(suspended), dict(zip(names, rest[len(new) :], strict=True))

    def _entry(self) -> str:
        """What others are told of our arbiter. It differs from one round to the next."""
        return json.dumps(
            {
                "host": socket.gethostname(),
                "machine": linux.machine(),
                "pid": self._arbiter,
                "ticks": linux.birth_ticks(self._arbiter),
                "every": self.every,
                "beat": time.monotonic(),
            }
        )

    def _beat_of(self, record: Record) -> tuple[list[str], list[Any]]:
        """KEYS and ARGV for one worker."""
        keys = [worker_key(record.name), WORKER_EXECUTIONS_KEY_TEMPLATE.format(record.name)]
        arguments: list[Any] = [utcformat(now()), self._config.worker_ttl + 60]
        if record.execution_id and record.phase.holds_job and not record.overflow:
            execution = Execution(record.execution_id, record.job_id, self._connection)
            keys += [
                execution.key,
                StartedJobRegistry.key_template.format(record.queue),
                ExecutionRegistry.key_template.format(record.job_id),
                Job.key_for(record.job_id),
            ]
            ttl = LEASE if record.job_timeout >= 0 else NO_TIMEOUT
            arguments += [time.time(), ttl, execution.composite_key, execution.id]
        return keys, arguments

    def _register_again(self, records: list[Record], suspended: bool) -> None:
        """Their keys have expired in an outage, or somebody has flushed the database."""
        if not records:
            return
        with self._connection.pipeline() as pipeline:
            for record in records:
                key, known = worker_key(record.name), dict(self._known[record.name])
                busy = record.phase.holds_job
                resting = WorkerStatus.SUSPENDED if suspended else WorkerStatus.IDLE
                known[b"state"] = WorkerStatus.BUSY if busy else resting
                known[b"last_heartbeat"] = utcformat(now())
                pipeline.hset(key, mapping=known)
                pipeline.expire(key, self._config.worker_ttl + 60)
                pipeline.sadd(REDIS_WORKER_KEYS, key)
                for queue in as_text(known.get(b"queues", b"")).split(","):
                    pipeline.sadd(WORKERS_BY_QUEUE_KEY % queue, key)
            pipeline.execute()


def living(board: Scoreboard) -> Iterator[tuple[int, Record]]:
    """Slots and records of all workers that RQ knows and whose process exists."""
    for slot in board.used():
        record = board.read(slot)
        registered = Phase.IDLE <= record.phase <= Phase.LEAVING
        if registered and linux.lives(record.pid, record.ticks):
            yield slot, record
