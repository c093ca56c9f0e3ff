"""Writing the outcome of a job: exactly once, whatever happens to the connection.

An outcome is one transaction of RQ's. When its reply is lost nobody knows whether it was
carried out, so each of these transactions watches the execution, which it also deletes: sent
again it finds out, and a first copy that Redis comes to late is refused. An error in writing
an outcome is never turned into another outcome while the first may still be carried out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from loguru import logger
from redis.client import Pipeline
from redis.exceptions import DataError, WatchError
from rq.callbacks import execute_stopped_callback
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.rate_limit import release_slot
from rq.utils import now, utcformat
from rq.worker import Worker

from resqued.worker.connecting import NO_ANSWER, Outage, until_answered

T = TypeVar("T")

INTERRUPTIONS: Final = "interruptions"
"""Field of the job's hash: how often we put it back. Cleared when it succeeds."""

DEATHS: Final = "deaths"
"""Field of the job's hash: how many workers died running it. Cleared when it succeeds."""

_ATTEMPTS: Final = 10
"""Times that a Redis which answers may not take an outcome before it counts as unwritable."""


class Gone(Exception):
    """The execution does not exist: an outcome has been written."""


class Unwritable(Exception):
    """Redis answers, but does not take this outcome; nothing of it has been written."""


class _Watching:
    """A queue whose `move_dependents_to_ready`, the first thing that RQ's success path does with
    its pipeline, also watches the execution."""

    def __init__(self, queue: Queue, guard: Callable[[Pipeline], None]) -> None:
        self._queue = queue
        self._guard = guard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def move_dependents_to_ready(self, job: Job, pipeline: Pipeline) -> dict[str, list[str]]:
        self._guard(pipeline)
        return self._queue.move_dependents_to_ready(job, pipeline=pipeline)


class Writing(Worker):
    """An RQ worker whose outcomes are written exactly once. `rq.Worker` underneath."""

    _first = True
    _settled = False

    def turn(self) -> None:
        """Called while Redis does not answer: alive, and not stuck."""

    def outage(self) -> Outage:
        """What to do while Redis does not answer."""
        raise NotImplementedError

    # The three outcomes that RQ knows, and ours.

    def write_success(self, job: Job, queue: Queue, execution: Execution) -> None:
        """Finished. Raises Unwritable."""

        def attempt() -> None:
            watching: Any = _Watching(queue, lambda pipeline: self._guard(pipeline, execution))
            self.handle_job_success(job, watching, queue.started_job_registry, execution)
            self._settled = True

        def follow() -> None:
            queue.ready_job_registry.cleanup()
            release_slot(job)

        self._write(job, execution, JobStatus.FINISHED, attempt, follow)

    def write_retry(self, job: Job, queue: Queue, execution: Execution, retry: Any) -> None:
        """The job returned a Retry. Raises Unwritable."""

        def attempt() -> None:
            exceeded = (job.number_of_retries or 0) >= retry.max
            self.handle_job_retry(job, queue, retry, queue.started_job_registry, execution)
            self._settled = self._settled or not exceeded  # RQ swallows errors if it is

        def follow() -> None:
            if job.get_status() is JobStatus.FAILED:
                job.send_webhooks(JobStatus.FAILED, exc_string="")
                self._enqueue_dependents_safely(queue, job)
            self._release_slot_safely(job)

        self._write(job, execution, None, attempt, follow)

    def write_failure(self, job: Job, queue: Queue, execution: Execution, text: str) -> None:
        """Failed, stopped or to be retried, as RQ decides. text: for the job's result.

        Raises Unwritable.
        """
        stopped = self._stopped_job_id

        def attempt() -> None:
            self._stopped_job_id = stopped
            self.handle_job_failure(job, queue, exc_string=text, execution=execution)

        def attempt_barely() -> None:
            with self.connection.pipeline() as pipeline:
                job.set_status(JobStatus.FAILED, pipeline=pipeline)
                self.cleanup_execution(job, pipeline, execution)
                job.failed_job_registry.add(job, job.failure_ttl, pipeline)
                pipeline.execute()
            follow()
            self._settled = True

        def follow() -> None:
            status = job.get_status()
            if status is JobStatus.FAILED:
                job.send_webhooks(JobStatus.FAILED, exc_string=text)
            if status in (JobStatus.FAILED, JobStatus.STOPPED):
                self._enqueue_dependents_safely(queue, job)
            self._release_slot_safely(job)

        try:
            self._write(job, execution, None, attempt, follow)
        except Unwritable as error:
            logger.error(f"failing job={job.id} without its traceback: {error}")
            self._write(job, execution, None, attempt_barely, follow)

    def write_stopped(self, job: Job, queue: Queue, execution: Execution) -> None:
        """Stopped by a command: Worker._handle_stopped_job. Raises Unwritable."""
        try:
            execute_stopped_callback(job, self.death_penalty_class)
        except BaseException:
            logger.exception(f"stopped callback of job={job.id} failed")
        self._stopped_job_id = job.id
        self.write_failure(job, queue, execution, "Job stopped by user, work-horse terminated.")

    def put_back(
        self, job: Job, queue: Queue, execution: Execution, counter: str | None, limit: int
    ) -> bool:
        """To the front of its queue, as if it had not been taken.

        counter: field of the job's hash that counts this, INTERRUPTIONS or DEATHS; None: the job
        had not begun. limit: how often; False when it is reached, and nothing is done.
        """
        outage = self.outage()
        while True:
            try:
                done = self._put_back(job, queue, execution, counter, limit)
                outage.over()
                return done
            except Gone:
                return True
            except WatchError:
                self.turn()
            except NO_ANSWER as error:
                outage.wait(error)
                self.turn()

    def _put_back(
        self, job: Job, queue: Queue, execution: Execution, counter: str | None, limit: int
    ) -> bool:
        with self.connection.pipeline() as pipeline:
            pipeline.watch(execution.key)
            if not exists(pipeline, job, execution):
                raise Gone
            if counter and int(pipeline.hget(job.key, counter) or 0) >= limit:
                return False
            there = pipeline.exists(job.key)  # somebody may have deleted it meanwhile
            pipeline.multi()
            self.cleanup_execution(job, pipeline, execution)
            if there:
                job.set_status(JobStatus.QUEUED, pipeline=pipeline)
                pipeline.hset(job.key, "worker_name", "")
                if counter:
                    pipeline.hincrby(job.key, counter, 1)
                job.cleanup(job.ttl, pipeline=pipeline)
                queue.push_job_id(job.id, pipeline=pipeline, at_front=True)
            pipeline.execute()
        return True

    # How.

    def _write(
        self,
        job: Job,
        execution: Execution,
        status: JobStatus | None,
        attempt: Callable[[], None],
        follow: Callable[[], None],
    ) -> None:
        """Attempt until the outcome is written.

        follow: what RQ does after the transaction, for when it was carried out and its reply
        lost. status: as the job's hash says if it was this outcome; None: any.
        """
        before = dict(vars(job))
        outage = self.outage()
        self._first, self._settled = True, False
        for attempts in range(_ATTEMPTS):
            time.sleep(min(2.0, 0.025 * 2**attempts) if attempts else 0)
            error: BaseException | None = None
            try:
                attempt()
            except Gone:
                break
            except Exception as problem:
                error = problem
            if self._settled:
                return
            if not self._ask(job, execution, outage, error):
                break
            if error is not None and _is_permanent(error):
                raise Unwritable(f"{type(error).__name__}: {error}") from error
            # It was not written. RQ's code has changed the job in memory, though.
            vars(job).clear()
            vars(job).update(before)
            self.executions[execution.id] = execution
        else:
            raise Unwritable(f"redis did not take the outcome {_ATTEMPTS} times")
        logger.warning(f"outcome of job={job.id} was written, but its reply was lost")
        self.until_answered(lambda: self._follow(job, status, follow))

    def _follow(self, job: Job, status: JobStatus | None, follow: Callable[[], None]) -> None:
        there = self.connection.exists(job.key)
        found = job.get_status() if there else status  # a success without a result deletes it
        if found is not None and status in (None, found):
            follow()
        elif found is not None:
            logger.warning(f"job={job.id} is {found.value}: somebody else has ended its execution")

    def _ask(
        self, job: Job, execution: Execution, outage: Outage, error: BaseException | None
    ) -> bool:
        """Wait until Redis takes writes; then, whether the execution still exists."""
        while True:
            self.turn()
            if isinstance(error, NO_ANSWER) and not isinstance(error, WatchError):
                outage.wait(error)
            try:
                # A write, and one that takes memory: READONLY, OOM and MISCONF have to pass.
                self.connection.hset(self.key, "last_heartbeat", utcformat(now()))
                there = exists(self.connection, job, execution)
            except NO_ANSWER as problem:
                error = problem
            else:
                outage.over()
                return there

    def until_answered(self, call: Callable[[], T]) -> T:
        return until_answered(call, self.outage(), self.turn)

    def _guard(self, pipeline: Pipeline, execution: Execution) -> None:
        """Have a pipeline that is not in its transaction yet watch the execution.

        Not the first time, but then: it must still exist. Raises Gone.
        """
        pipeline.watch(execution.key)
        if not self._first and not exists(pipeline, execution.job, execution):
            raise Gone
        self._first = False

    def cleanup_execution(
        self, job: Job, pipeline: Pipeline, execution: Execution | None = None
    ) -> None:
        """RQ calls this in every transaction that ends a job."""
        if execution is not None and not pipeline.explicit_transaction:
            self._guard(pipeline, execution)
            # What stands in the pipeline already, and what comes, is the transaction.
            pipeline.explicit_transaction = True
        super().cleanup_execution(job, pipeline, execution)

    def _release_slot_safely(self, job: Job) -> None:
        """RQ calls this last, and only when the outcome was written."""
        self._settled = True
        self.until_answered(lambda: release_slot(job))

    def _enqueue_dependents_safely(self, queue: Queue, job: Job) -> None:
        """RQ would log a connection error and leave the dependents deferred for ever."""
        try:
            self.until_answered(lambda: queue.enqueue_dependents(job))
        except Exception:
            logger.exception(f"dependents of job={job.id} not enqueued")


def exists(connection: Any, job: Job, execution: Execution) -> bool:
    """Whether an execution has no outcome yet.

    Its hash may have expired; the entry in the registry stays until somebody ends it.
    """
    if connection.exists(execution.key):
        return True
    return connection.zscore(job.started_job_registry.key, execution.composite_key) is not None


def _is_permanent(error: BaseException) -> bool:
    """Whether the same outcome would fail again: redis-py or RQ could not even send it."""
    return isinstance(error, DataError) or not isinstance(error, NO_ANSWER)


def clear_counters(job: Job, pipeline: Pipeline) -> None:
    """In the transaction of a success."""
    pipeline.hdel(job.key, INTERRUPTIONS, DEATHS)
