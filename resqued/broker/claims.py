"""Taking a job, and giving it back, so that at no moment it is nowhere.

One script claims the first id of the first queue that has one for the worker, in a hash without
expiry (`owning`), and moves it to that queue's intermediate list (RQ's own). The transaction
that marks the job started removes both. So Redis alone tells what a dead worker had taken.
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

from resqued import linux
from resqued.broker.bad_data import (
    ASIDE,
    abbreviate,
    hashes,
    is_data_error,
    log_once,
    set_aside,
    text_of,
)
from resqued.broker.owner import CLAIMS, NO_ARBITER, QUEUE, Owner, split_claim, worker_key
from resqued.broker.queues import Queues
from resqued.broker.wire import read_script
from resqued.config import Config
from resqued.logs import logger

T = TypeVar("T")

_JOBS: Final = Job.redis_job_namespace_prefix
_SUFFIX: Final = IntermediateQueue.get_intermediate_queue_key("")

_GONE: Final = 1000
"""Ids whose jobs do not exist any more that one script passes over at most."""

_TAKE: Final = read_script("split", "claim")
_DROP: Final = read_script("split", "back", "unclaim")
_COUNT: Final = read_script("split", "back", "count_death")


@dataclass(frozen=True)
class Claim:
    """A job that is ours: out of its queue, in the intermediate list, claimed."""

    job_id: str
    queue_key: str


class Suspended(Exception):
    """`rq suspend` is in force; nothing was taken."""


class Claims:
    """One worker's hand in its queues. Everything here may raise redis errors.

    jobs: what the keys of jobs begin with.
    """

    def __init__(
        self,
        connection: redis.Redis,
        owner: Owner | str,
        jobs: str = Job.redis_job_namespace_prefix,
    ) -> None:
        self.connection = connection
        self._field = str(owner)
        self._jobs = jobs
        self._take = connection.register_script(_TAKE)
        self._drop = connection.register_script(_DROP)
        self._count = connection.register_script(_COUNT)

    def take(self, queues: Iterable[Queue]) -> Claim | None:
        """The next job of the first queue that has one; None when all are empty.

        Raises Suspended. After a redis error the job may be ours all the same: call it again.
        """
        keys = [CLAIMS, WORKERS_SUSPENDED, *(queue.key for queue in queues)]
        words: list[str | int] = [self._field, _SUFFIX, self._jobs, _GONE, ASIDE, _JOBS]
        while True:
            queue, job_id, gone, *rest = self._ask(lambda: self._take(keys=keys, args=words))
            _tell(int(gone), *rest)
            names = text_of(queue), text_of(job_id)
            if names[0] == "suspended":
                raise Suspended
            if names[0] is None or names[1] is None:
                logger.error(
                    f"dropped {abbreviate(job_id)} from {abbreviate(queue)}: RQ has no such job ids"
                )
                self.let_go()
            elif names[0]:
                return Claim(names[1], names[0])
            elif not gone:
                return None

    def _ask(self, call: Callable[[], T]) -> T:
        """Call a script. Claims that somebody has overwritten are begun anew."""
        try:
            return call()
        except ResponseError as error:
            if not (is_data_error(error) and set_aside(self.connection, CLAIMS)):
                raise
            return call()

    def holds(self, taken: Claim | None = None) -> bool:
        """Whether Redis says that we have taken something; this one, if it is given."""
        claim: Any = self.connection.hget(CLAIMS, self._field)
        if claim is None or taken is None:
            return claim is not None
        mine = (taken.job_id.encode(), taken.queue_key.encode())
        return split_claim(claim if isinstance(claim, bytes) else claim.encode()) == mine

    def put_back(self, only: str = "") -> str | None:
        """What we have taken to the front of its queue; its id, or None if there was nothing.

        only: a job, if no other one is meant.
        """
        words: list[str | int] = [self._field, _SUFFIX, 1, only]
        job_id = self._ask(lambda: self._drop(keys=[CLAIMS], args=words))
        return job_id.decode(errors="replace") if isinstance(job_id, bytes) else job_id

    def put_back_after_death(self, limit: int) -> tuple[Claim, bool] | None:
        """The same for a worker that died with it. True: that was its last death, the job is
        still claimed and has to be buried."""
        words: list[str | int] = [self._field, _SUFFIX, self._jobs, limit]
        answer = self._ask(lambda: self._count(keys=[CLAIMS], args=words))
        if not answer:
            return None
        queue_key, job_id, last = answer
        texts = [raw.decode(errors="backslashreplace") for raw in (job_id, queue_key)]
        return Claim(*texts), bool(last)

    def let_go(self) -> None:
        """Forget what we have taken: no such job exists any more."""
        self._ask(lambda: self._drop(keys=[CLAIMS], args=[self._field, _SUFFIX, 0, ""]))

    def leave_it(self) -> None:
        """Claim it no longer; it stays in the intermediate list."""
        self.connection.hdel(CLAIMS, self._field)

    def settle(self, taken: Claim, pipeline: Pipeline) -> None:
        """In the transaction that marks the job started: it is no longer merely taken."""
        pipeline.lrem(taken.queue_key + _SUFFIX, 1, taken.job_id)
        pipeline.delete(_first_seen(taken))
        pipeline.hdel(CLAIMS, self._field)


def _tell(gone: int, first: bytes, where: bytes, odd: bytes) -> None:
    """What the script that takes has passed over."""
    if gone:
        first_id = (text_of(first) or abbreviate(first))[:80]
        many = f" and {gone - 1} more" if gone > 1 else ""
        queue = where.decode(errors="backslashreplace").removeprefix(QUEUE)
        logger.warning(
            f"job={first_id} of queue={queue}{many} is gone: deleted, expired or evicted"
        )
    if odd:
        key = odd.decode(errors="backslashreplace")
        if key.endswith(_SUFFIX):
            logger.error(f"key={key} was no list: it is kept as {key}{ASIDE}")
        else:
            log_once(key, f"key={key} is no list, so that queue is not served")


def spare_claimed(connection: redis.Redis) -> None:
    """Right before RQ's maintenance, which fails what it sees twice in an intermediate list.

    What is claimed has an owner, and is put back when that one dies.
    """
    notes = []
    for raw in hashes(connection, CLAIMS)[0].values():
        job_id, queue_key = split_claim(raw)
        notes.append(queue_key + _SUFFIX.encode() + b":first_seen:" + job_id)
    if notes:
        connection.delete(*notes)


def _first_seen(taken: Claim) -> str:
    """The key of RQ's note; `IntermediateQueue.get_first_seen_key`."""
    return f"{taken.queue_key}{_SUFFIX}:first_seen:{taken.job_id}"


def sweep(connection: redis.Redis) -> list[str]:
    """Put back what dead workers without an arbiter have claimed; the ids.

    A worker is dead when RQ says so. For those on their own: an arbiter's steward knows better.
    """
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
        if job_id := Claims(connection, owner).put_back():
            ids.append(job_id)
    return ids


_AT_FIRST: Final = 1.0  # seconds until RQ's maintenance is to notice one
_AGAIN: Final = 61.0  # seconds from there until it may fail it: RQ gives it a minute


class SkippedJobs:
    """Those of one worker. Everything here may raise redis errors."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._due: list[tuple[float, str]] = []  # moments, queues' keys
        self._logged = False

    def add(self, taken: Claim, cls: type) -> None:
        """One more. cls: of the worker, for the log."""
        self._claims.leave_it()
        now = time.monotonic()
        if not any(key == taken.queue_key for _, key in self._due):
            self._due += [(now + pause, taken.queue_key) for pause in (_AT_FIRST, _AGAIN)]
        logger.log(
            "DEBUG" if self._logged else "WARNING",
            f"job={taken.job_id} was not begun: execute_job of {cls.__module__}.{cls.__qualname__}"
            " returned without; if it is not begun or queued within a minute, it fails",
        )
        self._logged = True

    def tend(self, worker: Any, queues: Queues) -> None:
        """Have RQ's maintenance look at them, if it is time. worker: RQ's."""
        now = time.monotonic()
        if not self._due or self._due[0][0] > now:
            return
        due = {key for moment, key in self._due if moment <= now}
        spare_claimed(worker.connection)
        for key in due:
            queue = queues.of(key)
            queue.intermediate_queue.cleanup(worker, queue)
        self._due = [each for each in self._due if each[0] > now]


class ClaimValidity:
    """Of one worker. Who stands still for long, because its machine was suspended or because it was
    stopped, is taken for dead, and what it had taken is put back."""

    def __init__(self, claims: Claims, config: Config) -> None:
        self._claims = claims
        self._longest = min(config.dead_after / 4, config.loop_timeout / 2)
        self.looked_at = 0.0
        """When the last look at the queues began, on the clock that goes on in a suspended
        machine."""

    @property
    def is_doubtful(self) -> bool:
        """Whether so much time has passed since the look that others may take the worker for
        dead."""
        return linux.boot_clock() - self.looked_at > self._longest

    def is_lost(self, taken: Claim) -> bool:
        """Whether it is somebody else's by now; told. Raises redis errors."""
        if not self.is_doubtful or self._claims.holds(taken):
            return False
        tell_lost(taken.job_id)
        return True


def tell_lost(job_id: str) -> None:
    """In the log."""
    logger.warning(f"job={job_id} was put back by another worker; leaving it")
