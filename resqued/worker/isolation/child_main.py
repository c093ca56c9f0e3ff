"""What runs in the child: the job and all that belongs to it, except the writing of its outcome.

RQ's `perform_job` is called here, and what that calls at the end (`_finalize_success`,
`_finalize_failure`) sends one frame instead of a transaction. When the worker has written the
outcome, it tells the child; then the child calls the hook `after_job` and exits.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from rq.callbacks import execute_failure_callback, execute_success_callback
from rq.executions import Execution
from rq.job import Job, JobStatus, Retry
from rq.job_lifecycle import format_exc_info
from rq.queue import Queue
from rq.utils import now

from resqued import linux, logs, titles
from resqued.broker.connection import abandon
from resqued.logs import LogEvent
from resqued.scoreboard import Phase
from resqued.snapshots import Outcome
from resqued.worker.isolation import parcel
from resqued.worker.isolation.frames import Frame, FrameKind, Pipe, encode
from resqued.worker.job.functions import PutOff, exc_info_of, function_of, is_unknown, seal, unseal
from resqued.worker.job.interruptions import has_timed_out
from resqued.worker.job.leftovers import ChildLeftovers, has_started
from resqued.worker.job.unreadable import is_undecoded, why_unread

if TYPE_CHECKING:
    from resqued.worker.boot import Forge
    from resqued.worker.context import Context
    from resqued.worker.isolation.entry import IsolatedRunner

ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


class ChildMain:
    """The life of one child. context, runner: copies of the worker's."""

    def __init__(
        self,
        context: Context,
        runner: IsolatedRunner,
        forge: Forge,
        up: Pipe,
        down: Pipe,
        token: bytes,
    ) -> None:
        self._context = context
        self._runner = runner
        self._worker = context.worker
        self._forge = forge
        self._up, self._down = up, down
        self._token = token
        self._slot = context.slot
        self._pid = 0
        self.blanks: parcel.Blanks | None = None
        """Made before the fork, where possible."""
        self._error: BaseException | None = None
        self._before: parcel.Before | None = None
        self._spare_unread = False
        self._since = 0

    # The job.

    def receive(self) -> tuple[Job, Queue, Execution, dict[str, Any]] | None:
        """The job for a child that was forked ahead; None: the child is not needed."""
        size = self._down.read_exactly(8)
        raw = self._down.read_exactly(int.from_bytes(size)) if len(size) == 8 else b""
        if not raw or len(raw) < int.from_bytes(size):
            return None
        return (self.blanks or parcel.Blanks(self._context)).unpack(raw)

    def run_next(self) -> None:
        """The life of a child that was forked ahead."""
        found = self.receive()
        if found is not None:
            job, queue, execution, extra = found
            self.run(job, queue, execution, extra)

    def run(self, job: Job, queue: Queue, execution: Execution, extra: Mapping[str, Any]) -> None:
        """Run the job, report its outcome, call the hook and exit; does not return. extra: the
        worker's counters, and whether the job must not fail if it cannot be decoded (at_limit)."""
        self._spare_unread = bool(extra["at_limit"])
        self._pid = os.getpid()
        self._since = linux.boot_ticks()
        self._slot.writer.update(
            phase=Phase.RUNNING,
            job_id=job.id,
            queue=queue.name,
            execution_id=execution.id,
            job_started=time.monotonic(),
            job_timeout=self._context.seconds_of(job),
            **{name: int(extra[name]) for name in ("done", "failed", "memory")},
        )
        logs.bind_job(job.id, queue.name, function_of(job))
        queue.connection = self._worker.connection
        with contextlib.suppress(ValueError):
            os.environ["RQ_JOB_ID"] = job.id
        self._worker.executions[execution.id] = execution
        try:
            self._worker.perform_job(job, queue, execution)
        except BaseException as error:  # from a subclass, or a patch of RQ
            self._leave_if_forked()
            logs.exception(
                f"perform_job of job={job.id} raised {type(error).__name__}",
                LogEvent.JOB_NOTICE,
                job=job.id,
            )
            if self._before is None or not self._sent:
                self.finalize_failure(job, queue, execution, sys.exc_info())
        else:
            if not self._sent:
                self._report(
                    FrameKind.RAISED, job, [b"perform_job returned, and had given no outcome"]
                )
        self._end(job)

    _sent = False
    _leaves = False
    """It exits without waiting for the worker: nothing is to be done after the outcome."""

    def prepare(self, job: Job) -> None:
        """Replaces `prepare_job_execution`, with which `perform_job` begins."""
        slot = self._slot
        function = function_of(job)
        titles.child(slot.writer.slot, f"{function} since {time.strftime('%H:%M:%S')}")
        slot.writer.update(function=function)
        self._runner.connection.lend(job)
        self._before = parcel.Before(job)
        slot.call_hook("before_job", job=job)
        self._runner.wrap(job)

    def call(self, job: Job, call: Callable[[], object], seconds: float) -> NoReturn:
        """Run not the job, but code that belongs to it; then exit, within so many seconds."""
        self._pid = os.getpid()
        titles.child(self._slot.writer.slot, f"after {function_of(job)}")
        unseal(job)
        try:
            with self._runner.connection.lent(job):
                call()
        except BaseException:
            self._leave_if_forked()
            logs.exception(f"what belongs to job={job.id} failed", LogEvent.JOB_NOTICE, job=job.id)
        self._leave_if_forked()
        self._forge.leave(seconds)

    # Its outcome.

    def finalize_success(self, job: Job, queue: Queue, execution: Execution, value: Any) -> None:
        """The job returned. Never raises."""
        limit = self._slot.config.max_result
        self._leave_job_code(job)
        try:
            if isinstance(value, Retry):
                facts = {
                    "max": int(value.max),
                    "intervals": [float(each) for each in value.intervals],
                    "front": bool(value.enqueue_at_front),
                }
                self._report(FrameKind.RETRY, job, parcel.dump_result(job, value, limit), facts)
                return
            job._result = value
            job._status = JobStatus.FINISHED
            if job._success_callback_name:
                call = functools.partial(
                    execute_success_callback, job, self._worker.death_penalty_class, value
                )
                self._call_back(job, call, job.success_callback_timeout)
            if value is None:
                self._report(FrameKind.RETURNED, job, [], {"none": True})
            else:
                self._report(FrameKind.RETURNED, job, parcel.dump_result(job, value, limit))
        except BaseException:
            self._leave_if_forked()
            self._fail(job, sys.exc_info())

    def finalize_failure(
        self, job: Job, queue: Queue, execution: Execution, exc_info: ExcInfo
    ) -> None:
        """The job raised. Never raises."""
        error = exc_info[1]
        unread = is_undecoded(job, error)
        self._leave_job_code(job)
        if unread and self._spare_unread:
            self._report(FrameKind.UNREAD, job, [why_unread(error).encode(errors="replace")])
            return
        seal(job)
        if has_timed_out(error):
            ChildLeftovers().end(job.id, self._since)
        self._fail(job, exc_info, unread=unread)

    def _fail(self, job: Job, exc_info: ExcInfo, *, unread: bool = False) -> None:
        worker, config = self._worker, self._slot.config
        if config.unknown_function == "retry" and is_unknown(exc_info[1]):
            off = self._context.retry.until_answered(lambda: PutOff(worker, job))
            if not off.is_over:
                self._error = exc_info[1]
                self._report(FrameKind.PUT_OFF, job, [])
                return
            exc_info = exc_info_of(off.reason())
        job._status = JobStatus.FAILED
        if job._failure_callback_name:
            call = functools.partial(execute_failure_callback, job, worker.death_penalty_class)
            try:
                self._call_back(
                    job, functools.partial(call, *exc_info), job.failure_callback_timeout
                )
            except BaseException:
                self._leave_if_forked()
                exc_info = sys.exc_info()  # as RQ: the callback's error is recorded
        try:
            self._call_back(job, functools.partial(worker.handle_exception, job, *exc_info), 0)
        except BaseException:
            self._leave_if_forked()
            logs.exception(
                f"exception handler for job={job.id} failed", LogEvent.JOB_NOTICE, job=job.id
            )
        self._error = exc_info[1]
        text = format_exc_info(exc_info).encode(errors="backslashreplace")
        del exc_info
        limit = self._slot.config.max_result  # keep its end
        self._report(FrameKind.RAISED, job, [text[-limit:]], {"unread": unread})

    def _call_back(self, job: Job, call: Any, seconds: float) -> None:
        """Call a callback or an exception handler, with its own time limit. Raises its errors."""
        began = linux.boot_ticks()
        self.send(Frame(FrameKind.ALLOW, {"seconds": max(0.0, float(seconds or 0))}))
        try:
            call()
        except BaseException as error:
            self._leave_if_forked()
            if has_timed_out(error):
                ChildLeftovers().end(job.id, began)
            raise
        finally:
            self._leave_if_forked()
            _stop_timers()

    def _leave_job_code(self, job: Job) -> None:
        self._leave_if_forked()
        _stop_timers()
        job.ended_at = job.last_heartbeat = now()

    def _leave_if_forked(self) -> None:
        if os.getpid() != self._pid:  # the job forked, and this is the child
            os._exit(0)

    def _report(
        self, kind: FrameKind, job: Job, parts: list[bytes], facts: dict[str, Any] | None = None
    ) -> None:
        """Send how the job has ended; the worker writes it."""
        meta = self._before.meta(job) if self._before else None
        changes = self._before.changes(job) if self._before else {}
        whole = {**(facts or {}), **changes}
        if meta is not None:
            whole["meta"] = True
        if not self._slot.hooks.has("after_job") and self._forge.may_leave() and not has_started():
            whole["leaves"] = self._leaves = True
        frame = Frame(kind, whole, parts if meta is None else [*parts, meta])
        self._sent = True
        try:
            self.send(frame)
        except (TypeError, ValueError):  # an attribute that is not JSON
            self.send(replace(frame, facts={**whole, "changed": {}}))

    def send(self, frame: Frame) -> None:
        """Send a frame. If that fails, the process exits, and the worker sees its death."""
        pieces = encode(self._token, frame)
        try:
            if self._up.mend():
                logs.warning(
                    "the job has closed descriptors of its process", LogEvent.WORKER_NOTICE
                )
                abandon(self._worker.connection)
            self._up.write(pieces)
        except BrokenPipeError:  # the worker has died, and this process will be killed
            os._exit(1)
        except OSError as error:
            logs.error(f"the outcome cannot be sent to the worker: {error}", LogEvent.WORKER_NOTICE)
            os._exit(1)

    # What comes after it.

    def _end(self, job: Job) -> NoReturn:
        """Wait for the worker's reply, then call the hook and exit."""
        if self._leaves:
            self._forge.leave(self._slot.config.exit_timeout)
        if has_started():
            ChildLeftovers().log_left(job.id, self._since)
        word: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            self._down.mend()
            word = json.loads(self._down.read_line() or b"{}")
        if word.get("status") and self._slot.hooks.has("after_job"):
            outcome = Outcome(word["status"], float(word["seconds"]), self._error)
            with self._runner.connection.lent(job):
                self._slot.call_hook("after_job", job=job, outcome=outcome)
        self._leave_if_forked()
        self._forge.leave(float(word.get("exit", 0)))


def _stop_timers() -> None:
    for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(timer, 0)
