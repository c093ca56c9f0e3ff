"""What waits for a job that has ended, and is let go: its dependents, its rate limit's slot."""

from __future__ import annotations

from typing import Any, Final

from redis.exceptions import ResponseError, WatchError
from rq.exceptions import InvalidJobOperation
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.rate_limit import RateLimitRegistry, release_slot
from rq.registry import ReadyJobRegistry

from resqued.broker.bad_data import is_data_error, log_once, redo_what_is_refused
from resqued.broker.dependents import make_ready
from resqued.broker.fencing import is_overtaken
from resqued.broker.outages import NO_ANSWER, RetryPolicy
from resqued.broker.queues import known_queues
from resqued.broker.registries import enqueue_ready
from resqued.logs import logger

_ATTEMPTS: Final = 10
"""Times that RQ's cleanup of what is ready is called while it leaves any."""

_AT_ONCE: Final = 50
"""Dependents that are enqueued between two signs of life."""


class Release:
    """By one worker, or by the recovery of one. worker: RQ's, whose classes are used."""

    def __init__(self, worker: Any, retry: RetryPolicy) -> None:
        self._worker = worker
        self._retry = retry

    def after(self, job: Job, queue: Queue) -> None:
        """What comes after the transaction of an outcome; it does not matter how often. Raises
        redis errors."""
        if status_of(job) in (JobStatus.FAILED, JobStatus.STOPPED):
            self._worker._enqueue_dependents_safely(queue, job)
        self.ready()
        self.slot(job)

    # Dependents.

    def dependents_safely(self, queue: Queue, job: Job) -> None:
        """BaseWorker._enqueue_dependents_safely, which would log a connection error and leave the
        dependents deferred for ever."""

        def again() -> None:
            self.dependents(queue, job)
            # Those whom an attempt whose reply was lost has made ready.
            self.ready()

        try:
            try:
                self.dependents(queue, job)
            except NO_ANSWER as error:
                if is_data_error(error):  # asking again does not help
                    raise
                self._retry.until_answered(again)
        except Exception:
            logger.exception(f"dependents of job={job.id} not enqueued")

    def dependents(self, queue: Queue, job: Job) -> None:
        """Queue.enqueue_dependents, but their queues become known as soon as they are ready. Raises
        redis errors."""
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
        self.enqueue(queue, ready)

    def enqueue(self, queue: Queue, ready: dict[str, list[str]]) -> None:
        """Enqueue those that are ready now. RQ only logs when Redis does not answer, and leaves
        them to a maintenance that is minutes away."""
        for name, ids in ready.items():
            for at in range(0, len(ids), _AT_ONCE):
                queue.enqueue_ready_jobs_by_queue({name: ids[at : at + _AT_ONCE]})
                self._retry.turn()
        left = self._retry.until_answered(lambda: self._are_left(ready)) if ready else False
        if left:
            self._retry.until_answered(self.ready)

    def _are_left(self, ready: dict[str, list[str]]) -> bool:
        with self._worker.connection.pipeline(transaction=False) as pipeline:
            for name, ids in ready.items():
                for job_id in ids:
                    pipeline.zscore(ReadyJobRegistry.key_template.format(name), job_id)
            return any(score is not None for score in pipeline.execute())

    def ready(self) -> None:
        """Enqueue the dependents that whoever made them ready could not enqueue any more. Raises
        redis errors."""
        worker = self._worker
        for name in known_queues(worker.connection, worker.queue_class):
            queue = worker.queue_class(
                name,
                connection=worker.connection,
                job_class=worker.job_class,
                serializer=worker.serializer,
            )
            try:
                self._all(queue.ready_job_registry)
            except ResponseError as error:
                if not is_data_error(error):
                    raise
                log_once(f"ready {name}", f"ready jobs of queue={name} cannot be read: {error}")

    def _all(self, registry: ReadyJobRegistry) -> None:
        """RQ's cleanup, again if it has left any: what it could not enqueue it only logs."""
        left: set[Any] | None = None
        for _ in range(_ATTEMPTS):  # one may be unreadable
            there: set[Any] = set(self._worker.connection.zrange(registry.key, 0, -1))
            left = there if left is None else left & there
            if not left:
                break
            enqueue_ready(registry)

    # Rate limits.

    def slot_safely(self, job: Job) -> None:
        """BaseWorker._release_slot_safely, which would log a connection error, and leave the slot
        taken. RQ calls it last."""
        self._retry.until_answered(lambda: release_slot(job))

    def slot(self, job: Job) -> None:
        """Raises redis errors, but for those of its data: RQ's maintenance frees it then."""
        try:
            release_slot(job)
        except NO_ANSWER as error:
            if not is_data_error(error):
                raise

    def slot_of(self, job_id: str) -> None:
        """For a job without a hash, which would say under which rate limit it was. Raises redis
        errors."""
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
    """As Redis has it now, and from here on the job in memory; None: the job is gone, also when
    somebody has overwritten its key. Raises redis errors."""
    try:
        return job.get_status()
    except InvalidJobOperation:
        return None
    except NO_ANSWER as error:
        if not is_data_error(error):
            raise
        return None
