"""Decide which outcome a job gets when its code has ended, and write and log it.

`_finalize_success` and `_finalize_failure`, with which RQ's `perform_job` ends, never raise here:
an error in writing an outcome would reach the `except` of `perform_job`, which would write a second
outcome.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from rq.callbacks import execute_failure_callback, execute_success_callback
from rq.executions import Execution
from rq.job import Job, JobStatus, Retry
from rq.job_lifecycle import format_exc_info
from rq.queue import Queue
from rq.utils import now

from resqued import logs
from resqued.broker.connection import renew
from resqued.broker.fencing import INTERRUPTIONS
from resqued.broker.outcome_writer import OutcomeWriter, Unwritable
from resqued.logs import LogEvent
from resqued.scoreboard import Order, Phase, Reason
from resqued.snapshots import Outcome
from resqued.worker.job import rqlog
from resqued.worker.job.functions import PutOff, exc_info_of, is_unknown, seal
from resqued.worker.job.interruptions import (
    NO_REASON,
    ORDERS,
    Failed,
    Interrupted,
    Killed,
    Stopped,
    has_timed_out,
)
from resqued.worker.job.lines import Again, log_end
from resqued.worker.job.story_events import StoryEvents
from resqued.worker.job.unreadable import is_undecoded, why_unread

if TYPE_CHECKING:
    from resqued.worker.context import Context
    from resqued.worker.job.callbacks import Callbacks
    from resqued.worker.job.user_code import UserCode

ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]

LOST: Final = {"interrupted": "requeued", "superseded": "clean"}
"""What the hook `job_lost` calls an outcome whose name it does not have."""

_KILLED: Final = "Work-horse terminated unexpectedly; killed by a kill-horse command; "


class Outcomes:
    """The outcomes of one worker's jobs. Runs in the worker's main thread."""

    def __init__(
        self, context: Context, writer: OutcomeWriter, code: UserCode, callbacks: Callbacks
    ) -> None:
        self._context = context
        self._slot = context.slot
        self._worker = context.worker
        self._writer = writer
        self._code = code
        self._callbacks = callbacks
        self.story = StoryEvents(context.slot)

    # The job's code is over.

    def finalize_success(self, job: Job, queue: Queue, execution: Execution, value: Any) -> None:
        """The job returned: `_finalize_success`. Never raises."""
        self._context.unreadable.forget()
        self._leave_job_code(job)
        if self._end_cut(job, queue, execution, None):
            return
        job._result = value
        try:
            if isinstance(value, Retry):
                self.retry(job, queue, execution, value)
                return
            job._status = JobStatus.FINISHED
            if job._success_callback_name:
                callback = functools.partial(
                    execute_success_callback, job, self._worker.death_penalty_class, value
                )
                self._callbacks.call(job, callback, job.success_callback_timeout)
                if self._end_cut(job, queue, execution, None):
                    return
            self.write_success(job, queue, execution)
        except BaseException:
            self._end_failed(job, queue, execution, sys.exc_info())

    def finalize_failure(
        self, job: Job, queue: Queue, execution: Execution, exc_info: ExcInfo
    ) -> None:
        """The job raised: `_finalize_failure`. Never raises."""
        slot, unread = self._slot, self._context.unreadable
        undecoded = is_undecoded(job, exc_info[1])
        self._leave_job_code(job)
        try:
            if not undecoded:
                unread.forget()
            elif unread.reaches_limit():
                self.put_back_unreadable(
                    job, queue, execution, why_unread(exc_info[1]), exc_info[1]
                )
                return
            if has_timed_out(exc_info[1]) and slot.signals.cut is None:
                self._callbacks.end_descendants(job, slot.writer.record.job_ticks)
            self._end_failed(job, queue, execution, exc_info)
        except BaseException:
            self.give_up(job)

    def _leave_job_code(self, job: Job) -> None:
        self._code.leave(job)
        seal(job)
        job.ended_at = job.last_heartbeat = now()

    def _end_cut(
        self, job: Job, queue: Queue, execution: Execution, error: BaseException | None
    ) -> bool:
        """If the job was cut, give it the outcome that the cut asks for; False if it was not cut.
        The cut decides, whatever the job did after it: it may have caught the exception and
        returned, or raised another one (error). Never raises."""
        slot = self._slot
        cut = slot.signals.decision
        if cut is None:
            return False
        slot.step(Phase.RETURNED, stopped=ORDERS.get(cut, Order.NONE))
        if not isinstance(error, Interrupted):
            did = f"raised {type(error).__name__}" if error is not None else "returned"
            logs.info(
                f"job={job.id} {did} after it had been cut: it counts as cut",
                LogEvent.JOB_NOTICE,
                job=job.id,
            )
            error = error or cut()
        self._callbacks.end_descendants(job, slot.writer.record.job_ticks)
        renew(self._worker.connection)
        self._code.leave_after_this()
        self.write_cut(cut, os.getpid(), job, queue, execution, error)
        return True

    def _end_failed(self, job: Job, queue: Queue, execution: Execution, exc_info: ExcInfo) -> None:
        """The job, its success callback, or the writing of its result has failed; or the job was
        cut in one of its callbacks."""
        if self._end_cut(job, queue, execution, exc_info[1]):
            return
        if self._slot.config.unknown_function == "retry" and is_unknown(exc_info[1]):
            off = self._context.retry.until_answered(lambda: PutOff(self._worker, job))
            if not off.is_over:
                self.put_off(off, job, queue, execution, exc_info[1])
                return
            exc_info = exc_info_of(off.reason())
        job._status = JobStatus.FAILED
        if job._failure_callback_name:
            callback = functools.partial(
                execute_failure_callback, job, self._worker.death_penalty_class, *exc_info
            )
            try:
                self._callbacks.call(job, callback, job.failure_callback_timeout)
            except BaseException:
                exc_info = sys.exc_info()  # as RQ: the callback's error is recorded
        if self._end_cut(job, queue, execution, exc_info[1]):
            del exc_info
            return
        if has_timed_out(exc_info[1]):
            renew(self._worker.connection)
            self._code.leave_after_this()
        try:
            self._callbacks.call(
                job, functools.partial(self._worker.handle_exception, job, *exc_info)
            )
        except BaseException as error:
            if self._slot.signals.cut is None:
                logs.exception(
                    f"exception handler for job={job.id} failed", LogEvent.JOB_NOTICE, job=job.id
                )
            else:
                exc_info = type(error), error, error.__traceback__
        if not self._end_cut(job, queue, execution, exc_info[1]):
            self.fail(job, queue, execution, format_exc_info(exc_info), exc_info[1])
        # Its traceback refers to this frame: a cycle that would keep all of the job's objects.
        del exc_info

    # Outcomes, wherever the job ran.

    def write_success(self, job: Job, queue: Queue, execution: Execution) -> None:
        """Write the success. Raises Unwritable."""
        written = self._writer.write_success(job, queue, execution)
        if written:
            job.send_webhooks(JobStatus.FINISHED)
        self.record(job, "finished", None, written=written)

    def retry(self, job: Job, queue: Queue, execution: Execution, retry: Any) -> None:
        """Schedule the job again: it returned a Retry. Raises Unwritable."""
        tried = job.number_of_retries or 0
        self._writer.tell(execution.id, self.story.returned_retry(job, retry))
        written = self._writer.write_retry(job, queue, execution, retry)
        if job.get_status(refresh=False) is JobStatus.FAILED:
            text = f"it has returned Retry {tried + 1} times, which is more than its maximum"
            self.record(job, "failed", None, written=written, text=text)
        else:
            again = Again.returned(retry, tried)
            self.record(job, "retried", None, written=written, again=again)

    def put_off(
        self, off: PutOff, job: Job, queue: Queue, execution: Execution, error: Any
    ) -> None:
        """Schedule the job again: its function is unknown here, and another host may know it."""
        self._writer.tell(
            execution.id, self.story.put_off(f"its function is unknown: {job.func_name}")
        )
        try:
            written = self._writer.write(job, queue, execution, lambda: off.write(queue, execution))
        except Unwritable as problem:
            logs.error(f"job={job.id} not put off: {problem}", LogEvent.JOB_NOTICE, job=job.id)
            self._slot.leave(Reason.LOOP)
            return
        text = f"its function {job.func_name!r} is not known here"
        self.record(job, "retried", error, written=written, text=text, again=off.again)

    def put_back_unreadable(
        self, job: Job, queue: Queue, execution: Execution, why: str, error: Any
    ) -> None:
        """Put back a job that cannot be decoded, since this worker's set-up is the cause."""
        self._writer.tell(execution.id, self.story.put_back(f"its worker could not read it: {why}"))
        self._writer.put_back(job, queue, execution, None, 0)
        self._context.unreadable.leave(self._slot, job.id, why)
        self.record(job, "interrupted", error, text=why)

    def write_cut(
        self,
        cut: type[Interrupted],
        pid: int,
        job: Job,
        queue: Queue,
        execution: Execution,
        error: BaseException | None,
    ) -> None:
        """Give a job that was cut, in the process pid, the outcome of the cut. Never raises."""
        limit = self._slot.config.max_interruptions
        event = self.story.stopped() if cut is Stopped else self.story.put_back()
        self._writer.tell(execution.id, event)
        try:
            if cut is Stopped:
                self._callbacks.call_stopped(job, execution)
                written = self._writer.write_stopped(job, queue, execution)
                self.record(job, "stopped", error, written=written)
            elif cut is Killed:
                self._callbacks.report_killed(job, pid, 9, None)
                self.fail(job, queue, execution, _KILLED, error, killed="a kill-horse command")
            elif cut is Failed:
                job.retries_left = None
                text = self._slot.writer.order_reason or NO_REASON
                self.fail(job, queue, execution, text, error, killed=text)
            elif self._writer.put_back(job, queue, execution, INTERRUPTIONS, limit):
                self.record(job, "interrupted", error)
            else:
                job.retries_left = None
                text = f"Interrupted {limit + 1} times by stops of its worker; the limit is {limit}"
                self.fail(job, queue, execution, text, error, killed=text)
        except BaseException:
            self.give_up(job)

    def fail(
        self,
        job: Job,
        queue: Queue,
        execution: Execution,
        text: str,
        error: Any,
        *,
        killed: str = "",
        memory: int = 0,
    ) -> None:
        """Write that the job failed (text is recorded), or is to be retried. Never raises. killed:
        why, if the failure is no exception of the job's own, which error trackers have been shown.
        memory: bytes that the job's process had."""
        retried, again = job.should_retry, Again.of(job)
        if retried:
            self._writer.tell(execution.id, self.story.retried(job, killed or text, memory))
        elif killed:
            self._writer.tell(execution.id, self.story.failed(killed, memory))
        try:
            written = self._writer.write_failure(job, queue, execution, text)
        except Unwritable as problem:
            logs.error(
                f"failure of job={job.id} not written: {problem}", LogEvent.JOB_NOTICE, job=job.id
            )
            self._slot.leave(Reason.LOOP)
            return
        if killed and written and not retried:
            self._callbacks.report_to_trackers(job, text)
        status = "retried" if retried else "failed"
        self.record(
            job,
            status,
            error,
            written=written,
            text=killed or text,
            again=again,
            killed=bool(killed),
        )

    def give_up(self, job: Job) -> None:
        """Log that writing the outcome raised, and exit; called in an `except`."""
        logs.exception(f"outcome of job={job.id} not written", LogEvent.JOB_NOTICE, job=job.id)
        self._slot.leave(Reason.LOOP)  # the recovery decides by the phase on the record

    def record(
        self,
        job: Job,
        status: str,
        error: BaseException | None,
        *,
        written: bool = True,
        text: str = "",
        again: Again | None = None,
        killed: bool = False,
    ) -> None:
        """The execution has ended: log it and call hooks. written: with this outcome. text, again
        and killed: as for `log_end`."""
        slot = self._slot
        status = status if written else "superseded"
        began = slot.writer.record.job_started
        seconds = time.monotonic() - began if began else 0.0
        slot.counts.end(status, seconds)
        if slot.alone and status == "finished":
            rqlog.log_finished(self._worker, job)
        if not written:
            text, again = "", None
        more = self._context.has_next
        log_end(slot, job, status, seconds, text=text, again=again, killed=killed, more=more)
        child_runner = self._callbacks.child_runner
        if child_runner.busy:
            slot.step(Phase.WRITTEN)
            child_runner.note_outcome(status, seconds)
        elif slot.hooks.has("after_job"):
            slot.step(Phase.WRITTEN)
            with self._code.lend(job):
                slot.call_hook("after_job", job=job, outcome=Outcome(status, seconds, error))
        slot.become_idle(failed=status in ("failed", "stopped"), briefly=self._context.has_next)
