"""Write the outcome of a job exactly once, whatever happens to the connection.

An outcome is one transaction of RQ's. If its reply is lost, it is unknown whether it was carried
out; then the existence of the execution decides (`fencing`). An error in writing an outcome never
leads to a second outcome while the first may still be carried out. Runs in workers and recoveries.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from redis.client import Pipeline
from redis.exceptions import DataError, WatchError
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.utils import now, utcformat

from resqued import logs
from resqued.broker import story
from resqued.broker.bad_data import is_data_error, redo_what_is_refused
from resqued.broker.dependents import make_ready
from resqued.broker.fast_path import FastPath
from resqued.broker.fencing import (
    DEATHS,
    Gone,
    OutcomeRefused,
    clear_counters,
    delete_execution,
    execute_or_refuse,
    exists,
    in_one_transaction,
    watch_execution,
)
from resqued.broker.outages import NO_ANSWER, Outage, RetryPolicy
from resqued.broker.owner import remove_running
from resqued.broker.pipeline import StepPipeline
from resqued.broker.put_back import PutBack
from resqued.broker.release import Release, status_of
from resqued.broker.story import StoryEvent
from resqued.logs import LogEvent

_ATTEMPTS: Final = 10
"""How often a Redis that answers may refuse an outcome before it counts as unwritable."""


class Unwritable(Exception):
    """Redis answers, but refuses this outcome; nothing of it has been written."""


class _Watching:
    """A queue whose `move_dependents_to_ready`, the first that RQ's success path does with its
    pipeline, also watches the execution."""

    def __init__(self, queue: Queue, execution: Execution, release: Release) -> None:
        self._queue = queue
        self._execution = execution
        self._release = release

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def move_dependents_to_ready(self, job: Job, pipeline: Pipeline) -> dict[str, list[str]]:
        if isinstance(pipeline, StepPipeline):
            return {}  # the script looks for dependents
        watch_execution(pipeline, self._execution)
        return make_ready(self._queue, job, pipeline)

    def enqueue_ready_jobs_by_queue(self, ready: dict[str, list[str]]) -> None:
        self._release.enqueue_ids(self._queue, ready)


class OutcomeWriter:
    """Writes outcomes for one worker, or for the recovery of one. worker: RQ's, whose code makes
    the commands. also: adds further commands to the transaction of every outcome. fast_path: None
    where there is none."""

    def __init__(
        self,
        worker: Any,
        retry: RetryPolicy,
        also: Callable[[Job, Pipeline], None],
        fast_path: FastPath | None = None,
    ) -> None:
        self._worker = worker
        self._retry = retry
        self._also = also
        self._fast_path = fast_path
        self.deaths = 0
        """How many processes the job in hand has killed; written with its outcome."""
        self._told: tuple[str, StoryEvent] | None = None  # by execution
        self._succeeds = False  # whether the outcome being written is a success
        self.release = Release(worker, retry)

    # What RQ's code calls.

    def succeed(self, rqs: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """Replaces BaseWorker.handle_job_success, which is passed as rqs."""
        self._succeeds = True
        try:
            rqs(*args, **kwargs)
        finally:
            self._succeeds = False

    def clean_up(
        self,
        rqs: Callable[..., None],
        job: Job,
        pipeline: Pipeline,
        execution: Execution | None,
    ) -> None:
        """Replaces BaseWorker.cleanup_execution (rqs), which RQ calls in every transaction that
        ends a job. Raises Gone."""
        if execution is not None and not pipeline.explicit_transaction:
            watch_execution(pipeline, execution)
            # What the pipeline has already, and what follows, is the transaction.
            pipeline.explicit_transaction = True
        if execution is not None:
            remove_running(pipeline, execution)
        rqs(job, pipeline, execution)
        if not isinstance(pipeline, StepPipeline):  # a step's script looks at the types first
            redo_what_is_refused(pipeline, self._worker.connection)
            if self._fast_path is not None:
                self._fast_path.hand.free(pipeline)
        pipeline.execute = partial(  # type: ignore[method-assign]
            execute_or_refuse, pipeline.execute
        )
        if self._succeeds:
            clear_counters(job, pipeline)
        if self.deaths:
            pipeline.hset(job.key, DEATHS, str(self.deaths))
        if self._told and execution is not None and self._told[0] == execution.id:
            story.add(pipeline, job.id, self._told[1])
        self._also(job, pipeline)

    def enqueue_dependents_safely(self, queue: Queue, job: Job) -> None:
        """Replaces BaseWorker._enqueue_dependents_safely."""
        if self._fast_path is None or not self._fast_path.writes:  # else the script has found none
            self.release.enqueue_dependents_safely(queue, job)

    def tell(self, execution_id: str, event: StoryEvent) -> None:
        """Add this to the job's story with what ends the execution next."""
        self._told = execution_id, event

    # Outcomes.

    def write_success(self, job: Job, queue: Queue, execution: Execution) -> bool:
        """Finish the job. False: another process has ended the execution. Raises Unwritable."""

        def attempt() -> None:
            watching: Any = _Watching(queue, execution, self.release)
            self._worker.handle_job_success(job, watching, queue.started_job_registry, execution)

        return self.write(job, queue, execution, attempt, JobStatus.FINISHED)

    def write_retry(self, job: Job, queue: Queue, execution: Execution, retry: Any) -> bool:
        """Schedule the job again: it returned a Retry. Result and errors as for `write_success`."""

        def attempt() -> None:
            registry = queue.started_job_registry
            self._worker.handle_job_retry(job, queue, retry, registry, execution)

        return self.write(job, queue, execution, attempt)

    def write_failure(self, job: Job, queue: Queue, execution: Execution, text: str) -> bool:
        """Fail, stop or retry the job, as RQ decides. text: for the job's result. False and
        Unwritable as for `write_success`."""
        worker = self._worker
        stopped = worker._stopped_job_id
        text = text.encode(errors="backslashreplace").decode()  # names in it may be anything

        def attempt() -> None:
            worker._stopped_job_id = stopped
            worker.handle_job_failure(job, queue, exc_string=text, execution=execution)

        def attempt_barely() -> None:
            with worker.connection.pipeline() as pipeline:
                job.set_status(JobStatus.FAILED, pipeline=pipeline)
                worker.cleanup_execution(job, pipeline, execution)
                job.failed_job_registry.add(job, job.failure_ttl, pipeline=pipeline)
                pipeline.execute()
            job.send_webhooks(JobStatus.FAILED, exc_string=text)
            self._retry.until_answered(lambda: self.release.release_all(job, queue))

        try:
            return self.write(job, queue, execution, attempt, text=text)
        except Unwritable as error:
            logs.error(
                f"failing job={job.id} without its traceback: {error}",
                LogEvent.JOB_NOTICE,
                job=job.id,
            )
            return self.write(job, queue, execution, attempt_barely, text=text)

    def write_stopped(self, job: Job, queue: Queue, execution: Execution) -> bool:
        """As Worker._handle_stopped_job. Result and errors as for `write_success`."""
        self._worker._stopped_job_id = job.id
        text = "Job stopped by user, work-horse terminated."
        return self.write_failure(job, queue, execution, text)

    # How.

    def write(
        self,
        job: Job,
        queue: Queue,
        execution: Execution,
        attempt: Callable[[], None],
        status: JobStatus | None = None,
        text: str = "",
    ) -> bool:
        """Attempt until the outcome is written; False if another process has ended the execution.
        status: what the job's hash says if it was this outcome; None: any. text: the reason of a
        failure. Raises Unwritable."""
        fast = self._fast_path
        if fast and fast.holds(execution):
            done = fast.finish(job, execution) if status is JobStatus.FINISHED else None
            follow = partial(self.release.release_all, job, queue)
            if done or (done is None and fast.write(job, execution, attempt, follow)):
                return True
        before = dict(vars(job))
        outage = self._retry.outage()
        attempts, refusals, in_doubt = 0, 0, False
        while refusals < _ATTEMPTS:
            if attempts:
                time.sleep(min(2.0, 0.025 * 2 ** min(attempts, 7)))
            attempts += 1
            try:
                with in_one_transaction(job):
                    attempt()
                return True
            except Gone:
                break
            except OutcomeRefused as refused:
                error, overtaken = refused.error, refused.overtaken
            except Exception as problem:
                error, overtaken = problem, False
            in_doubt = in_doubt or not overtaken
            refusals += not overtaken
            if not self._ask(job, execution, outage, error):
                break
            if _is_permanent(error):
                raise Unwritable(f"{type(error).__name__}: {error}") from error
            # It was not written. RQ's code has changed the job in memory, though.
            vars(job).clear()
            vars(job).update(before)
            self._worker.executions[execution.id] = execution
        else:
            raise Unwritable(f"redis did not take the outcome {_ATTEMPTS} times")
        self._retry.until_answered(
            lambda: delete_execution(self._worker.connection, job, execution)
        )
        return self._retry.until_answered(
            lambda: self._find_out(job, queue, status, in_doubt, text)
        )

    def _find_out(
        self, job: Job, queue: Queue, status: JobStatus | None, in_doubt: bool, text: str
    ) -> bool:
        """The execution is gone, though no attempt was seen to succeed: was it this worker's?
        in_doubt: whether a reply may have been lost. What follows the transaction is done in any
        case: the process that has written it may have died since."""
        found = status_of(job)
        written = in_doubt and (found is None or status in (None, found))
        word = found.value if found else "gone from redis"
        if not written:
            logs.warning(
                f"job={job.id} is {word}: somebody else has ended its execution",
                LogEvent.JOB_NOTICE,
                job=job.id,
            )
        elif found is None:
            logs.warning(
                f"job={job.id} is {word}: no result to keep, deleted, or flushed",
                LogEvent.JOB_NOTICE,
                job=job.id,
            )
        else:
            logs.warning(
                f"outcome of job={job.id} was written, but its reply was lost",
                LogEvent.JOB_NOTICE,
                job=job.id,
            )
        if written and found is JobStatus.FAILED:
            job.send_webhooks(found, exc_string=text)
        self.release.release_all(job, queue)
        return written

    def _ask(self, job: Job, execution: Execution, outage: Outage, error: Exception) -> bool:
        """Wait until Redis accepts writes; then, whether the execution still exists."""
        worker = self._worker
        while True:
            self._retry.turn()
            if isinstance(error, NO_ANSWER) and not isinstance(error, WatchError):
                outage.wait(error)
            try:
                # A write, and one that takes memory: READONLY, OOM and MISCONF have to pass.
                worker.connection.hset(worker.key, "last_heartbeat", utcformat(now()))
                there = exists(worker.connection, job, execution)
            except NO_ANSWER as problem:
                error = problem
            else:
                outage.over()
                return there

    # No outcome.

    def put_back(
        self, job: Job, queue: Queue, execution: Execution, counter: str | None, limit: int
    ) -> bool:
        """Put the job at the front of its queue: see `put_back.PutBack`."""
        return PutBack(self._worker, self._retry, job, execution).run(queue, counter, limit)


def _is_permanent(error: Exception) -> bool:
    """Whether the same outcome would fail again: redis-py or RQ could not send it, or Redis refuses
    it because of what is stored under the job's keys."""
    if is_data_error(error):
        return True
    return isinstance(error, DataError) or not isinstance(error, NO_ANSWER)
