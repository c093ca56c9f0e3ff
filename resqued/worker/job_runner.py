"""Run jobs in the worker's own process, or, isolated, each in a child.

RQ's `perform_job` is not replaced, since error trackers and tracers patch it; the methods that it
calls are: `prepare_job_execution`, `Job.perform`, `_finalize_success` and `_finalize_failure`
(`outcomes`). An argument rqs is the method of RQ that is replaced.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from redis.client import Pipeline
from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue
from rq.worker import WorkerStatus

from resqued import linux, logs, namesakes
from resqued.broker.executions import LONGEST_TTL, NO_TIMEOUT
from resqued.broker.outcome_writer import OutcomeWriter
from resqued.broker.put_back import put_back_stray
from resqued.logs import LogEvent
from resqued.scoreboard import Phase, Reason
from resqued.worker import fetcher
from resqued.worker.isolation.isolation import Isolation
from resqued.worker.job.callbacks import Callbacks
from resqued.worker.job.functions import function_of
from resqued.worker.job.interruptions import Failed, Interrupted, Killed, Stopped
from resqued.worker.job.lines import log_start
from resqued.worker.job.user_code import JobConnection, UserCode
from resqued.worker.job.wrapped import run_wrapped
from resqued.worker.outcomes import Outcomes
from resqued.worker.step_host import WorkerStepHost, make_fast_path

if TYPE_CHECKING:
    from resqued.worker.isolation.child_main import ChildMain
    from resqued.worker.parts import WorkerParts


class JobRunner:
    """Runs the jobs of one worker, in its main thread. A child for a job has a copy."""

    def __init__(self, parts: WorkerParts) -> None:
        context = self._context = parts.context
        self._slot = parts.slot
        self._worker = parts.worker
        self._in_hand = parts.in_hand
        self.child_main: ChildMain | None = None
        """In a child: replaces the worker's part."""
        host = WorkerStepHost(
            context,
            parts.registration.note_heartbeat,
            self.drop_stray,
            lambda: self.isolation.busy,
        )
        context.fast_path = make_fast_path(context, host)
        self.writer = OutcomeWriter(self._worker, context.retry, self._rest, context.fast_path)
        self.connection = JobConnection(self._worker.connection, self._worker.connection_timeout)
        """The connection that jobs are given."""
        self.code = UserCode(context, self.connection)
        self.callbacks = Callbacks(context, self.code, lambda: self.isolation)
        self.outcomes = Outcomes(context, self.writer, self.code, self.callbacks)
        self.isolation = Isolation(context, self)
        self._calls_before_job = self._slot.hooks.has("before_job")
        self._wraps = self._slot.hooks.has("perform_job")

    def _rest(self, job: Job, pipeline: Pipeline) -> None:
        """Add to the transaction of every outcome: the worker is idle again."""
        self._worker.set_state(WorkerStatus.IDLE, pipeline)
        self._worker.heartbeat(None, pipeline)

    # As `Runner`.

    def start(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """End all children."""
        self.isolation.close()

    def rest(self) -> float:
        """Collect ended children; seconds until the next call."""
        return self.isolation.rest()

    def cut_for(self, command: dict[str, Any]) -> type[Interrupted] | None:
        """stop-job and stop-execution stop the job, kill-horse and the verdict Fail fail it. In a
        signal handler."""
        execution = next(iter(self._worker.executions.values()), None)
        if execution is None:
            return None
        match command.get("command"):
            case "stop-job" if command.get("job_id") == execution.job_id:
                return Stopped
            case "stop-execution" if command.get("execution_id") == execution.id:
                return Stopped
            case "kill-horse":
                return Killed
            case fetcher.FAIL_EXECUTION if command.get("execution_id") == execution.id:
                return Failed
        return None

    def drop_stray(self, job_id: str, execution_id: str) -> None:
        """Put the job back, as if it had been interrupted. Raises redis errors."""
        context, limit = self._context, self._slot.config.max_interruptions
        why = "redis said that its worker runs it, which it did not"
        self.writer.tell(execution_id, self.outcomes.story.put_back(why))
        put_back_stray(self._worker, context.retry, job_id, execution_id, context.queues, limit)

    # A job, from its beginning to the last hook.

    def heartbeat_ttl(self, rqs: Callable[[], int], job: Job) -> int:
        """TTL of a job's execution: long enough for the job and for killing it. So the job is not
        called abandoned even without a steward, unless Redis is away for a day."""
        if self._slot.writer.record.job_id != job.id:
            return rqs()
        if job.timeout and job.timeout > 0:
            timeout = min(job.timeout, LONGEST_TTL)  # it may have hundreds of digits
            return min(int(timeout + self._slot.config.kill_after) + 60, LONGEST_TTL)
        return NO_TIMEOUT

    def execute(self, job: Job, queue: Queue) -> None:
        """Run one job to its outcome. Replaces `execute_job`."""
        boundary = self._slot.boundary
        job_id = job.id
        was_taken = not self._in_hand.is_empty
        leftovers = self._slot.leftovers
        leftovers.childless = False
        boundary.enter()
        try:
            boundary.run(self._execute, job, queue)
        finally:
            vars(job).pop("perform", None)  # set by `wrap`
            vars(job).pop("_execute", None)
            if was_taken:  # else the user code that passed the job may still read it
                _empty(job)
            self.connection.end(damaged=self._slot.damaged)
            if failed := boundary.leave(job_id, childless=leftovers.childless):
                logs.warning(
                    f"job={job_id} has changed of its worker what cannot be set back:"
                    f" {'; '.join(failed)}; the worker is replaced",
                    LogEvent.JOB_NOTICE,
                    job=job_id,
                )
                self.code.leave_after_this()

    def _execute(self, job: Job, queue: Queue) -> None:
        """Runs in the job's context."""
        slot, worker = self._slot, self._worker
        slot.signals.forget()
        began = linux.boot_ticks()
        if slot.now or self.isolation.must_not_fork(queue.name):
            self._in_hand.give_back(why="" if slot.now else "its worker could fork no child for it")
            return
        try:
            slot.boundary.put(RQ_WORKER_ID=worker.name, RQ_JOB_ID=job.id)
            execution = worker.prepare_execution(job)
        except BaseException as error:
            if not self._in_hand.fail_unstarted(queue, error):
                raise
            return
        if execution is None:
            return
        forks = self.isolation.forks(queue.name)
        try:
            if forks:
                slot.step(Phase.PREPARED, function=self._announce(job))
                self.isolation.perform(job, queue, execution)
            else:
                worker.perform_job(job, queue, execution)
        except BaseException as error:  # from a subclass, or a patch of RQ
            logs.exception(
                f"perform_job of job={job.id} raised {type(error).__name__}",
                LogEvent.JOB_NOTICE,
                job=job.id,
            )
            if slot.writer.record.phase.holds_job and slot.reason is not Reason.LOOP:
                worker._finalize_failure(job, queue, execution, sys.exc_info())
        else:
            if slot.writer.record.phase.holds_job and slot.reason is not Reason.LOOP:
                text = "perform_job returned, and had given the job no outcome"
                self.outcomes.fail(job, queue, execution, text, None)
        finally:
            worker.executions.pop(execution.id, None)
        if not slot.alone and slot.signals.cut is None and not forks:
            slot.leftovers.log_left(job.id, began)
        if not self._context.has_next:
            slot.show("idle")

    def prepare_execution(self, rqs: Callable[[Job], Any], job: Job) -> Any:
        """Create the execution and mark the job started, in one transaction that also removes the
        claim.

        RQ uses two transactions, and if the worker dies between them, RQ's maintenance loses the
        job. None when the job no longer belongs to this worker. A job that user code passes to the
        worker, and that was not claimed, is prepared in RQ's way.
        """
        worker = self._worker
        if (begun := self._in_hand.begin_started()) is not None:
            return begun
        if self._in_hand.taken is None:
            return rqs(job)
        ttl = worker.get_heartbeat_ttl(job)
        with worker.connection.pipeline() as pipeline:
            execution = Execution.create(job, ttl, pipeline, worker_name=worker.name)
            worker.heartbeat(ttl, pipeline)
            worker.set_state(WorkerStatus.BUSY, pipeline)
            job.prepare_for_execution(worker.name, pipeline)
            pipeline.persist(job.key)
            return execution if self._in_hand.begin(execution, pipeline) else None

    def prepare(self, rqs: Callable[[], None], job: Job) -> None:
        """Replaces `prepare_job_execution`, with which RQ's `perform_job` begins. What that would
        write is written already, if the worker has claimed the job."""
        slot = self._slot
        if self.child_main is not None:
            self.child_main.prepare(job)
            return
        if slot.writer.record.job_id != job.id:
            rqs()
        function = self._announce(job)
        seconds = self._context.seconds_of(job)
        began = time.monotonic()
        self.connection.lend(job)
        if self._calls_before_job:
            slot.step(Phase.PREPARED, function=function, job_started=began, job_timeout=seconds)
            slot.call_hook("before_job", job=job)
        self.wrap(job)
        slot.step(
            Phase.RUNNING,
            function=function,
            limit=seconds + slot.config.kill_after if seconds > 0 else 0,
            job_started=began,
            job_ticks=linux.boot_ticks(),
            job_timeout=seconds,
        )

    def wrap(self, job: Job) -> None:
        """Replace the job's `perform` and `_execute`; `execute` undoes it: they are cycles."""
        job.perform = functools.partial(self.run, job)  # type: ignore[method-assign]
        job._execute = functools.partial(self._call, job)  # type: ignore[method-assign]

    def finalize_success(self, job: Job, queue: Queue, execution: Execution, value: Any) -> None:
        """Replaces `_finalize_success`, with which RQ's `perform_job` ends. Never raises."""
        (self.child_main or self.outcomes).finalize_success(job, queue, execution, value)

    def finalize_failure(self, job: Job, queue: Queue, execution: Execution, exc_info: Any) -> None:
        """Replaces `_finalize_failure`. Never raises."""
        (self.child_main or self.outcomes).finalize_failure(job, queue, execution, exc_info)

    def _announce(self, job: Job) -> str:
        """Log which job is about to run; its function's name."""
        slot = self._slot
        function = function_of(job)
        namesakes.warn_once(function.partition(".")[0])
        log_start(slot, job, function)
        slot.show(f"{function} since {time.strftime('%H:%M:%S')}")
        slot.counts.start(job)
        return function

    def run(self, job: Job) -> Any:
        """Replaces `job.perform`, within RQ's timeout: the only code that a signal interrupts."""
        slot, run = self._slot, functools.partial(type(job).perform, job)
        if self._wraps:
            run = functools.partial(run_wrapped, slot, job, run)
        return slot.signals.interruptible(run)

    def _call(self, job: Job) -> Any:
        """Replaces `job._execute`: distinguishes what an import sets from what the job sets."""
        module = (job.func_name or "").rpartition(".")[0]
        if module not in sys.modules or job.instance:
            self._slot.boundary.importing(lambda: job.func)
        return type(job)._execute(job)


def _empty(job: Job) -> None:
    """Drop what may be large: RQ's loop keeps the job itself until the next one."""
    job._instance, job._args, job._kwargs, job._data = None, (), {}, b""
    job._result = job._cached_result = None
