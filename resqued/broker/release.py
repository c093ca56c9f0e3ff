"""Release what waits for a job that has ended: its dependents, and its slot under a rate limit."""

from __future__ import annotations

from typing import Any, Final

from redis.exceptions import ResponseError, WatchError
from rq.exceptions import InvalidJobOperation
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.rate_limit import RateLimitRegistry, release_slot
from rq.registry import ReadyJobRegistry

from resqued import logs
from resqued.broker.bad_data import is_data_error, log_once, redo_what_is_refused
from resqued.broker.dependents import make_ready
from resqued.broker.fencing import is_overtaken
from resqued.broker.outages import NO_ANSWER, RetryPolicy
from resqued.broker.queues import known_queues, make_queue
from resqued.broker.registries import enqueue_ready
from resqued.logs import LogEvent

_ATTEMPTS: Final = 10
"""How often RQ's cleanup of ready jobs is called while it leaves any."""

_AT_ONCE: Final = 50
"""Dependents that are enqueued between two heartbeats of the worker's record."""


class Release:
    """Releases for one worker, or for the recovery of one. worker: RQ's, whose classes are used."""

    def __init__(self, worker: Any, retry: RetryPolicy) -> None:
        self._worker = worker
        self._retry = retry

    def release_all(self, job: Job, queue: Queue) -> None:
        """Do what follows the transaction of an outcome. Repeatable. Raises redis errors."""
        if status_of(job) in (JobStatus.FAILED, JobStatus.STOPPED):
            self._worker._enqueue_dependents_safely(queue, job)
        self.enqueue_ready()
        self.free_slot(job)

    # Dependents.

    def enqueue_dependents_safely(self, queue: Queue, job: Job) -> None:
        """Replaces BaseWorker._enqueue_dependents_safely. RQ would only log a connection error, and
        leave the dependents deferred for ever."""

        def again() -> None:
            self.enqueue_dependents(queue, job)
            # Those that an attempt with a lost reply has made ready.
            self.enqueue_ready()

        try:
            try:
                self.enqueue_dependents(queue, job)
            except NO_ANSWER as error:
                if is_data_error(error):  # asking again does not help
                    raise
                self._retry.until_answered(again)
        except Exception:
            logs.exception(
                f"dependents of job={job.id} not enqueued", LogEvent.JOB_NOTICE, job=job.id
            )

    def enqueue_dependents(self, queue: Queue, job: Job) -> None:
        """As Queue.enqueue_dependents, but lists their queues at once. Raises redis errors."""
        connection = self._worker.connection
        while True:
            try:
                with connection.pipeline() as pipeline:
                    redo_what_is_refused(pipeline, connection)
                    pipeline.watch(job.dependents_key)
                    ready = make_ready(queue, job, pipeline)
                    if pipeline.command_stack:
                        pipeline.execute()
                break
            except WatchError as error:
                if not is_overtaken(error):
                    raise
                self._retry.turn()  # another parent has ended meanwhile
        self.enqueue_ids(queue, ready)

    def enqueue_ids(self, queue: Queue, ready: dict[str, list[str]]) -> None:
        """Enqueue these ready jobs. RQ only logs when Redis does not answer, and leaves them to
        maintenance minutes later."""
        for name, ids in ready.items():
            for at in range(0, len(ids), _AT_ONCE):
                queue.enqueue_ready_jobs_by_queue({name: ids[at : at + _AT_ONCE]})
                self._retry.turn()
        left = self._retry.until_answered(lambda: self._are_left(ready)) if ready else False
        if left:
            self._retry.until_answered(self.enqueue_ready)

    def _are_left(self, ready: dict[str, list[str]]) -> bool:
        with self._worker.connection.pipeline(transaction=False) as pipeline:
            for name, ids in ready.items():
                for job_id in ids:
                    pipeline.zscore(ReadyJobRegistry.key_template.format(name), job_id)
            return any(score is not None for score in pipeline.execute())

    def enqueue_ready(self) -> None:
        """Enqueue ready jobs that a dead process has not enqueued. Raises redis errors."""
        worker = self._worker
        for name in known_queues(worker.connection, worker.queue_class):
            try:
                self._all(make_queue(worker, name).ready_job_registry)
            except ResponseError as error:
                if not is_data_error(error):
                    raise
                log_once(f"ready {name}", f"ready jobs of queue={name} cannot be read: {error}")

    def _all(self, registry: ReadyJobRegistry) -> None:
        """Call RQ's cleanup, again if it leaves any: it only logs what it could not enqueue."""
        left: set[Any] | None = None
        for _ in range(_ATTEMPTS):  # one may be unreadable
            there: set[Any] = set(self._worker.connection.zrange(registry.key, 0, -1))
            left = there if left is None else left & there
            if not left:
                break
            enqueue_ready(registry)

    # Rate limits.

    def free_slot_safely(self, job: Job) -> None:
        """Replaces BaseWorker._release_slot_safely, which RQ calls last. RQ would only log a
        connection error, and leave the slot taken."""
        self._retry.until_answered(lambda: release_slot(job))

    def free_slot(self, job: Job) -> None:
        """Free the job's slot. Raises redis errors, but data errors are left to maintenance."""
        try:
            release_slot(job)
        except NO_ANSWER as error:
            if not is_data_error(error):
                raise

    def free_slot_of(self, job_id: str) -> None:
        """Free the slot of a job without a hash. Raises redis errors."""
        connection = self._worker.connection
        limits = RateLimitRegistry.all(connection)
        with connection.pipeline(transaction=False) as pipeline:
            for limit in limits:
                pipeline.zscore(limit.allowed_key, job_id)
            scores = pipeline.execute()
        for limit, score in zip(limits, scores, strict=True):
            if score is not None:
                limit.release_stale_and_enqueue(job_id)


def status_of(job: Job) -> JobStatus | None:
    """The job's status in Redis now, also set on the object; None: the job is gone, or its key has
    the wrong type. Raises redis errors."""
    try:
        return job.get_status()
    except InvalidJobOperation:
        return None
    except NO_ANSWER as error:
        if not is_data_error(error):
            raise
        return None
