"""Writing the outcome of a job: exactly once, whatever happens to the connection.

An outcome is one transaction of RQ's. When its reply is lost nobody knows whether it was
carried out: then the execution says so (`guarding`). An error in writing an outcome is never
turned into another outcome while the first may still be carried out.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any, Final

from redis.client import Pipeline
from redis.exceptions import DataError, ResponseError, WatchError
from rq.callbacks import execute_stopped_callback
from rq.exceptions import InvalidJobOperation
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.rate_limit import release_slot
from rq.registry import ReadyJobRegistry
from rq.utils import now, utcformat

from resqued.broker.claims import known_queues
from resqued.broker.connection import NO_ANSWER, Outage
from resqued.broker.dependents import make_ready
from resqued.broker.fencing import Gone, Refused, drop, exists, in_one_transaction, is_overtaken
from resqued.broker.oddities import is_of_the_data, tell_once
from resqued.broker.pipeline import StepPipeline
from resqued.broker.registries import enqueue_ready
from resqued.broker.repetition import redo_what_is_refused
from resqued.broker.stopped_callback import Call
from resqued.logs import logger
from resqued.worker.guarding import Guarding

_ATTEMPTS: Final = 10
"""Times that a Redis which answers may not take an outcome before it counts as unwritable."""

_AT_ONCE: Final = 50
"""Dependents that are enqueued between two signs of life."""


class Unwritable(Exception):
    """Redis answers, but does not take this outcome; nothing of it has been written."""


class _Watching:
    """A queue whose `move_dependents_to_ready`, the first thing that RQ's success path does with
    its pipeline, also watches the execution. release: does what comes after the transaction."""

    def __init__(
        self,
        queue: Queue,
        guard: Callable[[Pipeline], None],
        release: Callable[[Queue, dict[str, list[str]]], None],
    ) -> None:
        self._queue = queue
        self._guard = guard
        self._release = release

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def move_dependents_to_ready(self, job: Job, pipeline: Pipeline) -> dict[str, list[str]]:
        if isinstance(pipeline, StepPipeline):
            return {}  # the script looks for dependents
        self._guard(pipeline)
        return make_ready(self._queue, job, pipeline)

    def enqueue_ready_jobs_by_queue(self, ready: dict[str, list[str]]) -> None:
        self._release(self._queue, ready)


class Writing(Guarding):
    """An RQ worker whose outcomes are written exactly once."""

    def _resqued_write_success(self, job: Job, queue: Queue, execution: Execution) -> bool:
        """Finished. False: somebody else has ended the execution before. Raises Unwritable."""

        def attempt() -> None:
            watching: Any = _Watching(
                queue,
                lambda pipeline: self._resqued_guard(pipeline, execution),
                self._resqued_release,
            )
            self.handle_job_success(job, watching, queue.started_job_registry, execution)

        return self._resqued_write(job, queue, execution, attempt, JobStatus.FINISHED)

    def _resqued_write_retry(
        self, job: Job, queue: Queue, execution: Execution, retry: Any
    ) -> bool:
        """The job returned a Retry. False and Unwritable: as for a success."""

        def attempt() -> None:
            self.handle_job_retry(job, queue, retry, queue.started_job_registry, execution)

        return self._resqued_write(job, queue, execution, attempt)

    def _resqued_write_failure(
        self, job: Job, queue: Queue, execution: Execution, text: str
    ) -> bool:
        """Failed, stopped or to be retried, as RQ decides. text: for the job's result.

        False and Unwritable: as for a success.
        """
        stopped = self._stopped_job_id
        text = text.encode(errors="backslashreplace").decode()  # names in it may be anything

        def attempt() -> None:
            self._stopped_job_id = stopped
            self.handle_job_failure(job, queue, exc_string=text, execution=execution)

        def attempt_barely() -> None:
            with self.connection.pipeline() as pipeline:
                job.set_status(JobStatus.FAILED, pipeline=pipeline)
                self.cleanup_execution(job, pipeline, execution)
                job.failed_job_registry.add(job, job.failure_ttl, pipeline=pipeline)
                pipeline.execute()
            job.send_webhooks(JobStatus.FAILED, exc_string=text)
            self._resqued_until_answered(lambda: self._resqued_follow_up(job, queue))

        try:
            return self._resqued_write(job, queue, execution, attempt, text=text)
        except Unwritable as error:
            logger.error(f"failing job={job.id} without its traceback: {error}")
            return self._resqued_write(job, queue, execution, attempt_barely, text=text)

    def _resqued_write_stopped(self, job: Job, queue: Queue, execution: Execution) -> bool:
        """Stopped by a command: Worker._handle_stopped_job. False and Unwritable: the same."""
        self._resqued_call_stopped_callback(job, execution)
        self._stopped_job_id = job.id
        return self._resqued_write_failure(
            job, queue, execution, "Job stopped by user, work-horse terminated."
        )

    def _resqued_call_stopped_callback(self, job: Job, execution: Execution) -> None:
        if not job._stopped_callback_name:
            return
        call = Call(self.connection, execution)
        if not self._resqued_until_answered(call.is_ours):
            logger.warning(f"stopped callback of job={job.id} not called again: it had begun")
            return
        self._resqued_allow(max(0.0, job.stopped_callback_timeout))
        self._resqued_run_stopped_callback(job)
        self._resqued_turn()

    def _resqued_run_stopped_callback(self, job: Job) -> None:
        try:
            with self._resqued_lend(job):
                execute_stopped_callback(job, self.death_penalty_class)
        except BaseException:
            logger.exception(f"stopped callback of job={job.id} failed")

    def _resqued_lend(self, job: Job) -> contextlib.AbstractContextManager[None]:
        """While code of the user's runs that is given the job."""
        return contextlib.nullcontext()

    # How.

    def _resqued_write(
        self,
        job: Job,
        queue: Queue,
        execution: Execution,
        attempt: Callable[[], None],
        status: JobStatus | None = None,
        text: str = "",
    ) -> bool:
        """Attempt until the outcome is written; False if it turns out not to be ours.

        status: as the job's hash says if it was this outcome; None: any. text: as for a failure.
        """
        fast = self._resqued_fast
        if fast and fast.holds(execution):
            done = fast.finish(job, execution) if status is JobStatus.FINISHED else None
            if done or (done is None and fast.write(job, queue, execution, attempt)):
                return True
        before = dict(vars(job))
        outage = self._resqued_outage()
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
            except Refused as refused:
                error, overtaken = refused.error, refused.overtaken
            except Exception as problem:
                error, overtaken = problem, False
            in_doubt = in_doubt or not overtaken
            refusals += not overtaken
            if not self._resqued_ask(job, execution, outage, error):
                break
            if _is_permanent(error):
                raise Unwritable(f"{type(error).__name__}: {error}") from error
            # It was not written. RQ's code has changed the job in memory, though.
            vars(job).clear()
            vars(job).update(before)
            self.executions[execution.id] = execution
        else:
            raise Unwritable(f"redis did not take the outcome {_ATTEMPTS} times")
        self._resqued_until_answered(lambda: drop(self.connection, job, execution))
        return self._resqued_until_answered(
            lambda: self._resqued_find_out(job, queue, status, in_doubt, text)
        )

    def _resqued_find_out(
        self, job: Job, queue: Queue, status: JobStatus | None, in_doubt: bool, text: str
    ) -> bool:
        """The execution is gone, though no attempt was seen to succeed: was it one of ours?

        in_doubt: whether a reply may have been lost. What comes after the transaction is done
        in any case: who has written it may have died since.
        """
        found = _status_of(job)
        ours = in_doubt and (found is None or status in (None, found))
        word = found.value if found else "gone from redis"
        if not ours:
            logger.warning(f"job={job.id} is {word}: somebody else has ended its execution")
        elif found is None:
            logger.warning(f"job={job.id} is {word}: no result to keep, deleted, or flushed")
        else:
            logger.warning(f"outcome of job={job.id} was written, but its reply was lost")
        if ours and found is JobStatus.FAILED:
            job.send_webhooks(found, exc_string=text)
        self._resqued_follow_up(job, queue)
        return ours

    def _resqued_follow_up(self, job: Job, queue: Queue) -> None:
        """What comes after the transaction of an outcome; it does not matter how often."""
        if _status_of(job) in (JobStatus.FAILED, JobStatus.STOPPED):
            self._enqueue_dependents_safely(queue, job)
        self._resqued_enqueue_ready()
        try:
            release_slot(job)
        except NO_ANSWER as error:
            if not is_of_the_data(error):  # else RQ's maintenance frees it
                raise

    def _resqued_ask(
        self, job: Job, execution: Execution, outage: Outage, error: Exception
    ) -> bool:
        """Wait until Redis takes writes; then, whether the execution still exists."""
        while True:
            self._resqued_turn()
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

    def _release_slot_safely(self, job: Job) -> None:
        """RQ calls this last; it would log a connection error, and leave the slot taken."""
        self._resqued_until_answered(lambda: release_slot(job))

    def _enqueue_dependents_safely(self, queue: Queue, job: Job) -> None:
        """RQ would log a connection error and leave the dependents deferred for ever."""
        if self._resqued_fast is not None and self._resqued_fast.writes:
            return  # the script has found none

        def again() -> None:
            self._resqued_enqueue_dependents(queue, job)
            # Those whom an attempt whose reply was lost has made ready.
            self._resqued_enqueue_ready()

        try:
            try:
                self._resqued_enqueue_dependents(queue, job)
            except NO_ANSWER as error:
                if is_of_the_data(error):  # asking again does not help
                    raise
                self._resqued_until_answered(again)
        except Exception:
            logger.exception(f"dependents of job={job.id} not enqueued")

    def _resqued_enqueue_dependents(self, queue: Queue, job: Job) -> None:
        """Queue.enqueue_dependents, but their queues become known as soon as they are ready."""
        while True:
            try:
                with self.connection.pipeline() as pipeline:
                    redo_what_is_refused(pipeline, self.connection)
                    pipeline.watch(job.dependents_key)
                    ready = make_ready(queue, job, pipeline)
                    if pipeline.command_stack:
                        pipeline.execute()
                break
            except WatchError as error:
                if not is_overtaken(error):
                    raise
                self._resqued_turn()  # another parent has ended meanwhile
        self._resqued_release(queue, ready)

    def _resqued_release(self, queue: Queue, ready: dict[str, list[str]]) -> None:
        """Enqueue those that are ready now. RQ only logs when Redis does not answer, and leaves
        them to a maintenance that is minutes away."""
        for name, ids in ready.items():
            for at in range(0, len(ids), _AT_ONCE):
                queue.enqueue_ready_jobs_by_queue({name: ids[at : at + _AT_ONCE]})
                self._resqued_turn()
        left = (
            self._resqued_until_answered(lambda: self._resqued_are_left(ready)) if ready else False
        )
        if left:
            self._resqued_until_answered(self._resqued_enqueue_ready)

    def _resqued_are_left(self, ready: dict[str, list[str]]) -> bool:
        with self.connection.pipeline(transaction=False) as pipeline:
            for name, ids in ready.items():
                for job_id in ids:
                    pipeline.zscore(ReadyJobRegistry.key_template.format(name), job_id)
            return any(score is not None for score in pipeline.execute())

    def _resqued_enqueue_ready(self) -> None:
        """Enqueue the dependents that whoever made them ready could not enqueue any more."""
        for name in known_queues(self.connection, self.queue_class):
            queue = self.queue_class(
                name,
                connection=self.connection,
                job_class=self.job_class,
                serializer=self.serializer,
            )
            try:
                self._resqued_enqueue_all(queue.ready_job_registry)
            except ResponseError as error:
                if not is_of_the_data(error):
                    raise
                tell_once(f"ready {name}", f"ready jobs of queue={name} cannot be read: {error}")

    def _resqued_enqueue_all(self, registry: ReadyJobRegistry) -> None:
        """RQ's cleanup, again if it has left any: what it could not enqueue it only logs."""
        left: set[Any] | None = None
        for _ in range(_ATTEMPTS):  # one may be unreadable
            there: set[Any] = set(self.connection.zrange(registry.key, 0, -1))
            left = there if left is None else left & there
            if not left:
                break
            enqueue_ready(registry)


def _status_of(job: Job) -> JobStatus | None:
    """As Redis has it now, and from here on the job in memory; None: the job is gone, also when
    somebody has overwritten its key. Raises redis errors."""
    try:
        return job.get_status()
    except InvalidJobOperation:
        return None
    except NO_ANSWER as error:
        if not is_of_the_data(error):
            raise
        return None


def _is_permanent(error: Exception) -> bool:
    """Whether the same outcome would fail again: redis-py or RQ could not even send it, or Redis
    does not take it for what is stored under the job's keys."""
    if is_of_the_data(error):
        return True
    return isinstance(error, DataError) or not isinstance(error, NO_ANSWER)
