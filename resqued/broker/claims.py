"""Claim jobs atomically and release them, so that a job is never lost.

One script takes the first id of the first queue that has one, writes it under the worker's name
into a hash without expiry (CLAIMS), and moves it to the queue's intermediate list, as RQ does. The
transaction that marks the job started removes both. So Redis alone shows what a dead worker had
claimed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import redis
from redis.client import Pipeline
from redis.exceptions import ResponseError
from rq.intermediate_queue import IntermediateQueue
from rq.job import Job
from rq.queue import Queue
from rq.suspension import WORKERS_SUSPENDED

from resqued import linux, logs
from resqued.broker.bad_data import (
    ASIDE,
    abbreviate,
    hashes,
    is_data_error,
    log_once,
    set_aside,
    text_of,
)
from resqued.broker.limits import QueueLimits
from resqued.broker.owner import CLAIMS, NO_ARBITER, QUEUE, Owner, split_claim, worker_key
from resqued.broker.queues import Queues
from resqued.broker.story import StoryEvent
from resqued.broker.wire import read_script
from resqued.config import Config
from resqued.logs import LogEvent

T = TypeVar("T")

_JOBS: Final = Job.redis_job_namespace_prefix
_SUFFIX: Final = IntermediateQueue.get_intermediate_queue_key("")

_GONE: Final = 1000
"""How many ids of jobs that no longer exist one call of the script skips at most."""

_TAKE: Final = read_script("split", "full", "claim")
_DROP: Final = read_script("split", "back", "tell", "unclaim")
_COUNT: Final = read_script("split", "back", "tell", "count_death")

_AT_FIRST: Final = 1.0  # seconds until RQ's maintenance first sees the job
_AGAIN: Final = 61.0  # seconds until it may fail the job, a minute later


@dataclass(frozen=True)
class Claim:
    """A job that this worker has claimed: it is in its queue's intermediate list."""

    job_id: str
    queue_key: str


class Suspended(Exception):
    """Raised when `rq suspend` is in force; nothing was claimed."""


class Claims:
    """Claims and releases jobs for one worker. Raises redis errors. jobs: prefix of jobs' keys.
    limits: of jobs that run at once."""

    def __init__(
        self,
        connection: redis.Redis,
        owner: Owner | str,
        jobs: str = Job.redis_job_namespace_prefix,
        limits: QueueLimits | None = None,
    ) -> None:
        self.connection = connection
        self.full: tuple[str, ...] = ()
        """Keys of queues that were at their limit and not empty, at the last look for a job."""
        self._limits = limits or QueueLimits({})
        self._field = str(owner)
        self._jobs = jobs
        self._take = connection.register_script(_TAKE)
        self._drop = connection.register_script(_DROP)
        self._count = connection.register_script(_COUNT)

    def take(self, queues: Iterable[Queue]) -> Claim | None:
        """Claim the next job of the first queue that has one; None when all are empty. Raises
        Suspended. After a redis error the job may have been claimed: call it again."""
        named = [queue.key for queue in queues]
        keys = [CLAIMS, WORKERS_SUSPENDED, *named]
        words: list[str | int | float] = [self._field, _SUFFIX, self._jobs, _GONE, ASIDE, _JOBS]
        words += [self._limits.encode(named), time.time()]
        while True:
            answer = self._ask(lambda: self._take(keys=keys, args=words))
            queue, job_id, gone, *rest, full = answer
            self.full = tuple(filter(None, map(text_of, full)))
            _log_skipped(int(gone), *rest)
            names = text_of(queue), text_of(job_id)
            if names[0] == "suspended":
                raise Suspended
            if names[0] is None or names[1] is None:
                logs.error(
                    f"dropped {abbreviate(job_id)} from {abbreviate(queue)}: no job ids of RQ",
                    LogEvent.REDIS_NOTICE,
                )
                self.forget()
            elif names[0]:
                return Claim(names[1], names[0])
            elif not gone:
                return None

    def _ask(self, call: Callable[[], T]) -> T:
        """Call a script; if the hash of claims has the wrong type, rename it and call again."""
        try:
            return call()
        except ResponseError as error:
            if not is_data_error(error):
                raise
            set_aside(self.connection, CLAIMS)  # or another process has
            return call()

    def holds(self, taken: Claim | None = None) -> bool:
        """Whether Redis has a claim of this worker; with `taken`, whether it is for that job."""
        claim: Any = self.connection.hget(CLAIMS, self._field)
        if claim is None or taken is None:
            return claim is not None
        mine = (taken.job_id.encode(), taken.queue_key.encode())
        return split_claim(claim if isinstance(claim, bytes) else claim.encode()) == mine

    def put_back(self, only: str = "", event: StoryEvent | None = None) -> str | None:
        """Move the claimed job to the front of its queue; its id, or None if there was no claim.
        only: do nothing if the claim is for another job than this. event: for the job's story."""
        told = event.as_argument() if event else ""
        words: list[str | int] = [self._field, _SUFFIX, 1, only, told]
        job_id = self._ask(lambda: self._drop(keys=[CLAIMS], args=words))
        return job_id.decode(errors="replace") if isinstance(job_id, bytes) else job_id

    def put_back_after_death(
        self, limit: int, event: StoryEvent | None = None
    ) -> tuple[Claim, bool] | None:
        """Put back the job that a dead worker had claimed, and count its death in the job's hash.
        None if there was no claim. True: the limit of deaths is reached; the job is still claimed,
        and the caller has to fail it. event: for its story, if it is put back."""
        told = event.as_argument() if event else ""
        words: list[str | int] = [self._field, _SUFFIX, self._jobs, limit, told]
        answer = self._ask(lambda: self._count(keys=[CLAIMS], args=words))
        if not answer:
            return None
        queue_key, job_id, last = answer
        texts = [raw.decode(errors="backslashreplace") for raw in (job_id, queue_key)]
        return Claim(*texts), bool(last)

    def forget(self) -> None:
        """Remove the claim of a job that no longer exists."""
        self._ask(lambda: self._drop(keys=[CLAIMS], args=[self._field, _SUFFIX, 0, "", ""]))

    def remove(self) -> None:
        """Remove the claim; the job stays in the intermediate list."""
        self.connection.hdel(CLAIMS, self._field)

    def remove_in(self, taken: Claim, pipeline: Pipeline) -> None:
        """Add to the transaction that marks the job started: the claim is removed."""
        pipeline.lrem(taken.queue_key + _SUFFIX, 1, taken.job_id)
        pipeline.delete(_first_seen(taken))
        pipeline.hdel(CLAIMS, self._field)


def _log_skipped(gone: int, first: bytes, where: bytes, odd: bytes) -> None:
    """Log the entries that the claiming script has skipped."""
    if gone:
        first_id = (text_of(first) or abbreviate(first))[:80]
        many = f" and {gone - 1} more" if gone > 1 else ""
        queue = where.decode(errors="backslashreplace").removeprefix(QUEUE)
        logs.warning(
            f"job={first_id} of queue={queue}{many} is gone: deleted, expired or evicted",
            LogEvent.JOB_GONE,
            job=first_id,
            queue=queue,
        )
    if odd:
        key = odd.decode(errors="backslashreplace")
        if key.endswith(_SUFFIX):
            logs.error(f"key={key} was no list: it is kept as {key}{ASIDE}", LogEvent.REDIS_NOTICE)
        else:
            log_once(key, f"key={key} is no list, so that queue is not served")


def protect_claimed(connection: redis.Redis) -> None:
    """Keep RQ's maintenance from failing claimed jobs; call it right before that. RQ fails a job
    that it sees in an intermediate list for longer than a minute. A claimed job has an owner, and
    is put back when that owner dies."""
    notes = []
    for raw in hashes(connection, CLAIMS)[0].values():
        job_id, queue_key = split_claim(raw)
        notes.append(queue_key + _SUFFIX.encode() + b":first_seen:" + job_id)
    if notes:
        connection.delete(*notes)


def _first_seen(taken: Claim) -> str:
    """The key where RQ notes when it first saw the job: `IntermediateQueue.get_first_seen_key`."""
    return f"{taken.queue_key}{_SUFFIX}:first_seen:{taken.job_id}"


def put_back_orphaned(connection: redis.Redis) -> list[str]:
    """Put back the jobs that dead workers without an arbiter had claimed; their ids. A worker
    counts as dead when RQ says so. Only for workers without an arbiter: those of an arbiter are
    checked by its steward, which knows more."""
    ids = []
    for raw in hashes(connection, CLAIMS)[0]:
        try:
            owner = Owner.parse(text_of(raw) or "")
        except ValueError:
            continue
        key = worker_key(owner.name)
        registered = connection.exists(key) and not connection.hexists(key, "death")
        if registered or owner.arbiter != NO_ARBITER:
            continue
        event = StoryEvent("put_back", "its worker had died before it began", worker=owner.name)
        if job_id := Claims(connection, owner).put_back(event=event):
            ids.append(job_id)
    return ids


class SkippedJobs:
    """Jobs that a user's `execute_job` was given and returned from without beginning them.

    As under `rq worker`, the class may have queued them elsewhere, or may run them later. So their
    claims are removed, and they stay in RQ's intermediate list, where RQ's maintenance fails them
    after a minute. That maintenance may be ten minutes away, so the worker calls it when the minute
    is over. Methods may raise redis errors.
    """

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._due: list[tuple[float, str]] = []  # (monotonic clock, key of the queue)
        self._logged = False

    def add(self, taken: Claim, cls: type) -> None:
        """Remove the claim of a skipped job. cls: of the worker, for the log."""
        self._claims.remove()
        now = time.monotonic()
        if not any(key == taken.queue_key for _, key in self._due):
            self._due += [(now + pause, taken.queue_key) for pause in (_AT_FIRST, _AGAIN)]
        logs.at(
            "DEBUG" if self._logged else "WARNING",
            f"job={taken.job_id} was not begun: execute_job of {cls.__module__}.{cls.__qualname__}"
            " returned without; if it is not begun or queued within a minute, it fails",
            LogEvent.JOB_NOTICE,
            job=taken.job_id,
        )
        self._logged = True

    def tend(self, worker: Any, queues: Queues) -> None:
        """Run RQ's maintenance of the intermediate lists, if a job is due. worker: RQ's."""
        now = time.monotonic()
        if not self._due or self._due[0][0] > now:
            return
        due = {key for moment, key in self._due if moment <= now}
        protect_claimed(worker.connection)
        for key in due:
            queue = queues.by_key(key)
            queue.intermediate_queue.cleanup(worker, queue)
        self._due = [each for each in self._due if each[0] > now]


class ClaimValidity:
    """Whether a worker still owns the job that it claimed. A worker that has stood still for long,
    because it or its machine was suspended, is taken for dead, and its claimed job is put back. It
    must then not begin the job as well."""

    def __init__(self, claims: Claims, config: Config) -> None:
        self._claims = claims
        self._longest = min(config.dead_after / 4, config.loop_timeout / 2)
        self.looked_at = 0.0
        """Start of the last look at the queues, on the clock that includes suspended time."""

    @property
    def is_doubtful(self) -> bool:
        """Whether it is so long since the last look that the worker may be taken for dead."""
        return linux.boot_clock() - self.looked_at > self._longest

    def is_lost(self, taken: Claim) -> bool:
        """Whether the claim now belongs to another; if so, it is logged. Raises redis errors."""
        if not self.is_doubtful or self._claims.holds(taken):
            return False
        log_lost(taken.job_id)
        return True


def log_lost(job_id: str) -> None:
    """Log that a job was put back by another process."""
    logs.warning(
        f"job={job_id} was put back by another worker; leaving it", LogEvent.JOB_NOTICE, job=job_id
    )
