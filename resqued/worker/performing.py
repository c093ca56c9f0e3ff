"""Running a job in the worker's own process.

RQ's `perform_job` stays as it is, since error trackers and tracers patch it; the pieces that
it calls are replaced: `prepare_job_execution`, `Job.perform`, `_finalize_success` and
`_finalize_failure`. The last two never raise: what goes wrong in writing an outcome must not
run into the `except` of `perform_job`, which would write a second one.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from redis.client import Pipeline
from rq.callbacks import execute_failure_callback, execute_success_callback
from rq.executions import Execution
from rq.job import Job, JobStatus, Retry
from rq.job_lifecycle import format_exc_info
from rq.queue import Queue
from rq.utils import now
from rq.worker import WorkerStatus

from resqued import descendants, linux, logs, namesakes
from resqued.broker.connection import NO_ANSWER, Outage, abandon, renew
from resqued.broker.executions import LONGEST_TTL, NO_TIMEOUT
from resqued.broker.fencing import DEATHS, INTERRUPTIONS, clear_counters, drop, exists
from resqued.broker.hand import Bounds
from resqued.broker.oddities import is_of_the_data
from resqued.logs import logger
from resqued.records import Outcome
from resqued.scoreboard import Order, Phase, Reason
from resqued.worker import rqlog
from resqued.worker.fast_path import FastPath, suits
from resqued.worker.interrupting import Interrupted, Killed, Stopped, has_timed_out
from resqued.worker.isolation.inside import Inside
from resqued.worker.isolation.isolation import Isolation
from resqued.worker.job_connection import JobConnection
from resqued.worker.peeking import function_of, seal
from resqued.worker.rights import why_no_script
from resqued.worker.slotted import Slotted
from resqued.worker.trackers import tell_trackers
from resqued.worker.unknown import PutOff, is_unknown, raised
from resqued.worker.unread import is_undecoded, why_unread
from resqued.worker.writing import Unwritable, Writing

ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]

_ORDERS: Final = {Stopped: Order.STOP, Killed: Order.KILL}


class Performing(Slotted, Writing):
    """The part of a worker that runs jobs in itself, or, isolated, in a child for each."""

    _resqued_inside: Inside | None = None
    """In a child: what it does in the worker's place."""

    _resqued_deaths = 0
    """How many processes the job in hand has killed, while the outcome of the last is written."""

    def _resqued_turn(self) -> None:
        self._resqued_slot.turn()

    def _resqued_allow(self, seconds: float) -> None:
        self._resqued_slot.turn(self._resqued_slot.patience + seconds)

    def _resqued_outage(self) -> Outage:
        return Outage(self._resqued_slot.config)

    def _resqued_equip(self) -> None:
        if self._resqued_equipped:
            return
        super()._resqued_equip()
        slot = self._resqued_slot
        if not slot.alone and slot.config.fast_path == "auto" and suits(self):
            if why := why_no_script(self.connection, slot.lacks):
                if slot.first(why):
                    logger.warning(why)
                return
            grace = int(slot.config.kill_after) + 60
            bounds = Bounds(grace, NO_TIMEOUT, LONGEST_TTL, self.worker_ttl + 60)
            self._resqued_fast = FastPath(self, str(slot.owner), bounds, self._resqued_note_token)

    @functools.cached_property
    def _resqued_isolation(self) -> Isolation:
        return Isolation(self)

    def _resqued_patience(self) -> float:
        return min(super()._resqued_patience(), self._resqued_isolation.rest())

    def teardown(self) -> None:
        """As of any; no child is left behind."""
        self._resqued_isolation.close()
        super().teardown()

    def _resqued_may_go_on(self) -> list[Queue]:
        """Of which queues the next job may be taken, right when the outcome of the last is written;
        none if something comes between: a reason to leave, maintenance, code of the user's.

        What is asked here can neither block nor fail.
        """
        slot = self._resqued_slot
        config = slot.config
        unusual = (
            slot.reason is not Reason.NONE
            or slot.stopping is not Reason.NONE
            or slot.signals.alert
            or slot.signals.cut is not None
            or slot.damaged
            or slot.writer.board.maintenance_is_due
            or (slot.hooks.has("after_job") and self._resqued_isolation.busy is None)
            or slot.hooks.has_foreign("should_recycle")
            or bool(config.max_memory or config.max_threads)  # known when the job is freed
            or self._resqued_knows_too_little()
        )
        if unusual:
            return []
        after = slot.snapshot(after=1)
        return [] if slot.hooks.ask("should_recycle", worker=after) else self._ordered_queues

    def _resqued_note_token(self, token: str) -> None:
        writer = self._resqued_slot.writer
        if writer.record.token != token:
            writer.update(token=token)

    def _resqued_close_hand(self) -> None:
        slot = self._resqued_slot
        if self._resqued_fast is None or slot.writer.record.execution_id:
            return  # a job has no outcome: its recovery has the hand
        if job_id := self._resqued_fast.close():
            logger.info(f"put back job={job_id}")

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        """Long enough for the job and for killing it: also with no steward to send heartbeats it
        is not called abandoned, as long as Redis itself is not away for a day."""
        if self._resqued_slot.writer.record.job_id != job.id:
            return super().get_heartbeat_ttl(job, working_time)
        if job.timeout and job.timeout > 0:
            timeout = min(job.timeout, LONGEST_TTL)  # it may have hundreds of digits
            return min(int(timeout + self._resqued_slot.config.kill_after) + 60, LONGEST_TTL)
        return NO_TIMEOUT

    # Before.

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run one job to its outcome."""
        boundary = self._resqued_slot.boundary
        job_id = job.id
        ours = self._resqued_taken is not None or self._resqued_started is not None
        boundary.enter()
        try:
            boundary.run(self._resqued_execute, job, queue)
        finally:
            vars(job).pop("perform", None)  # ours, see `prepare_job_execution`
            vars(job).pop("_execute", None)
            if ours:  # somebody's code that has given it to us looks at it afterwards
                _empty(job)
            self._resqued_job_connection.end(damaged=self._resqued_slot.damaged)
            if failed := boundary.leave(job_id):
                logger.warning(
                    f"job={job_id} has changed of its worker what cannot be set back:"
                    f" {'; '.join(failed)}; the worker is replaced"
                )
                self._resqued_leave_after_this()

    @functools.cached_property
    def _resqued_job_connection(self) -> JobConnection:
        return JobConnection(self.connection, self.connection_timeout)

    def _resqued_lend(self, job: Job) -> contextlib.AbstractContextManager[None]:
        self._resqued_slot.boundary.use()
        return self._resqued_job_connection.lent(job)

    def _resqued_execute(self, job: Job, queue: Queue) -> None:
        """In the job's context, from the beginning of its execution to the last hook."""
        slot = self._resqued_slot
        slot.signals.forget()
        began = linux.boot_ticks()
        if slot.now or self._resqued_isolation.hinders(queue.name):
            self._resqued_give_back()
            return
        try:
            slot.boundary.put(RQ_WORKER_ID=self.name, RQ_JOB_ID=job.id)
            execution = self.prepare_execution(job)
        except BaseException as error:
            if not self._resqued_spoiled(queue, error):
                raise
            return
        if execution is None:
            return
        try:
            if self._resqued_isolation.forks(queue.name):
                slot.step(Phase.PREPARED, function=self._resqued_announce(job))
                self._resqued_isolation.perform(job, queue, execution)
            else:
                self.perform_job(job, queue, execution)
        except BaseException as error:  # what a subclass, or what patches RQ, makes of it
            logger.exception(f"perform_job of job={job.id} raised {type(error).__name__}")
            if slot.writer.record.phase.holds_job and slot.reason is not Reason.LOOP:
                self._finalize_failure(job, queue, execution, sys.exc_info())
        else:
            if slot.writer.record.phase.holds_job and slot.reason is not Reason.LOOP:
                text = "perform_job returned, and had given the job no outcome"
                self._resqued_end(job, queue, execution, text, None)
        finally:
            self.executions.pop(execution.id, None)
        if (
            not slot.alone
            and slot.signals.cut is None
            and not self._resqued_isolation.forks(queue.name)
        ):
            slot.leftovers.name(job.id, began)
        if not self._resqued_has_next:
            slot.show("idle")

    def prepare_execution(self, job: Job) -> Any:
        """One transaction: the execution exists, the job is started, and no longer taken.

        RQ uses two, and between them its own maintenance loses a job whose worker dies.
        None when the job is not ours any more. A job that was not taken by this worker, but given
        to it by somebody's code, is prepared as RQ does it.
        """
        if (begun := self._resqued_started) is not None:
            self._resqued_started = None
            self._resqued_prepared(begun)
            return begun
        if self._resqued_taken is None:
            return super().prepare_execution(job)
        ttl = self.get_heartbeat_ttl(job)
        with self.connection.pipeline() as pipeline:
            execution = Execution.create(job, ttl, pipeline, worker_name=self.name)
            self.heartbeat(ttl, pipeline)
            self.set_state(WorkerStatus.BUSY, pipeline)
            job.prepare_for_execution(self.name, pipeline)
            pipeline.persist(job.key)
            return execution if self._resqued_begin(execution, pipeline) else None

    def prepare_job_execution(self, job: Job, remove_from_intermediate_queue: bool = False) -> None:
        """RQ's `perform_job` begins with it; all that it would write is written already, if the
        job was taken by this worker."""
        slot = self._resqued_slot
        if self._resqued_inside is not None:
            self._resqued_inside.prepare(job)
            return
        if slot.writer.record.job_id != job.id:
            super().prepare_job_execution(job, remove_from_intermediate_queue)
        function = self._resqued_announce(job)
        seconds = self._resqued_seconds_of(job)
        self._resqued_job_connection.lend(job)
        if slot.hooks.has("before_job"):
            slot.step(Phase.PREPARED, function=function)
            slot.tell("before_job", job=job)
        # `execute_job` takes them off again: they are cycles
        job.perform = functools.partial(self._resqued_run, job)  # type: ignore[method-assign]
        job._execute = functools.partial(self._resqued_call, job)  # type: ignore[method-assign]
        slot.step(
            Phase.RUNNING,
            function=function,
            patience=seconds + slot.config.kill_after if seconds > 0 else 0,
            job_started=time.monotonic(),
            job_ticks=linux.boot_ticks(),
            job_timeout=seconds,
        )

    def _resqued_announce(self, job: Job) -> str:
        """Say which job is about to run; its function's name."""
        slot = self._resqued_slot
        function = function_of(job)
        namesakes.warn_once(function.partition(".")[0])
        slot.log(f"took job={job.id} queue={job.origin} function={function}")
        slot.show(f"{function} since {time.strftime('%H:%M:%S')}")
        return function

    def _resqued_seconds_of(self, job: Job) -> float:
        """Its timeout; negative: none."""
        return float(min(job.timeout or self.queue_class.DEFAULT_TIMEOUT, LONGEST_TTL))

    def _resqued_run(self, job: Job) -> Any:
        """In the place of `job.perform`, inside RQ's timeout: the one stretch that can be cut."""
        slot, run = self._resqued_slot, functools.partial(type(job).perform, job)
        if slot.hooks.has("perform_job"):
            run = functools.partial(slot.hooks.perform, run, worker=slot.snapshot(), job=job)
        return slot.signals.interruptible(run)

    def _resqued_call(self, job: Job) -> Any:
        """In the place of `job._execute`: what an import sets is told from what the job sets."""
        module = (job.func_name or "").rpartition(".")[0]
        if module not in sys.modules or job.instance:
            self._resqued_slot.boundary.importing(lambda: job.func)
        return type(job)._execute(job)

    def _resqued_cut_for(self, command: dict[str, Any]) -> type[Interrupted] | None:
        """stop-job and stop-execution stop the job in hand, kill-horse fails it. In a handler."""
        execution = next(iter(self.executions.values()), None)
        if execution is None:
            return None
        match command.get("command"):
            case "stop-job" if command.get("job_id") == execution.job_id:
                return Stopped
            case "stop-execution" if command.get("execution_id") == execution.id:
                return Stopped
            case "kill-horse":
                return Killed
        return None

    def _resqued_drop_stray(self, job_id: str, execution_id: str) -> None:
        """Back to its queue, as if it had been interrupted."""
        execution = Execution(execution_id, job_id, self.connection, self.name)
        try:
            job = self.job_class.fetch(job_id, self.connection, self.serializer)
            execution._job = job
            if not exists(self.connection, job, execution):
                drop(self.connection, job, execution)
                return
            queue = self._resqued_make_queue(job.origin)
            limit = self._resqued_slot.config.max_interruptions
            done = self._resqued_put_back(job, queue, execution, INTERRUPTIONS, limit)
        except Exception as error:
            if isinstance(error, NO_ANSWER) and not is_of_the_data(error):
                raise
            done = False
        if done:
            logger.warning(
                f"put back job={job_id}: redis says that this worker runs it, which it does not"
            )

    # After.

    def _resqued_leave_job_code(self, job: Job) -> None:
        """Make the process ours again, whatever the job did to it."""
        slot = self._resqued_slot
        if os.getpid() != slot.pid:  # the job forked, and this is the child
            os._exit(0)
        if not slot.signals.intact:
            self._resqued_mend()
            slot.signals.install()
        slot.boundary.regain()
        self._resqued_job_connection.take_back(job)
        seal(job)
        fast = self._resqued_fast
        token = fast.hand.make_token() if fast is not None else ""
        slot.step(Phase.RETURNED, token=token)
        job.ended_at = job.last_heartbeat = now()

    def _resqued_mend(self) -> None:
        """The job has closed our descriptors, and some may be other files now: touch none."""
        self._resqued_slot.damaged = True
        abandon(self.connection)
        self._resqued_ear.abandon()
        with contextlib.suppress(OSError):
            for fd in logs.fds().values():
                os.dup2(2, fd)
        logger.warning("the job has closed descriptors of its worker")
        self._resqued_leave_after_this()

    def _resqued_leave_after_this(self) -> None:
        """A process that an exception hit anywhere is not trusted with another job.

        On its own there is nobody to replace it, so it stays, as RQ's SimpleWorker does.
        """
        if not self._resqued_slot.alone:
            self._resqued_slot.leave(Reason.ASKED if self._resqued_slot.now else Reason.CUT)

    def _finalize_success(
        self, job: Job, queue: Queue, execution: Execution, return_value: Any
    ) -> None:
        """The job returned. Never raises."""
        if self._resqued_inside is not None:
            self._resqued_inside.succeed(job, queue, execution, return_value)
            return
        self._resqued_unread.forget()
        self._resqued_leave_job_code(job)
        if self._resqued_end_cut(job, queue, execution, None):
            return
        job._result = return_value
        try:
            if isinstance(return_value, Retry):
                ours = self._resqued_write_retry(job, queue, execution, return_value)
                failed = job.get_status(refresh=False) is JobStatus.FAILED
                self._resqued_done(job, "failed" if failed else "retried", None, ours=ours)
                return
            job._status = JobStatus.FINISHED
            if job._success_callback_name:
                call = functools.partial(execute_success_callback, job, self.death_penalty_class)
                self._resqued_call_back(
                    job, functools.partial(call, return_value), job.success_callback_timeout
                )
                if self._resqued_end_cut(job, queue, execution, None):
                    return
            ours = self._resqued_write_success(job, queue, execution)
        except BaseException:
            self._resqued_fail(job, queue, execution, sys.exc_info())
            return
        if ours:
            job.send_webhooks(JobStatus.FINISHED)
        self._resqued_done(job, "finished", None, ours=ours)

    def _finalize_failure(
        self, job: Job, queue: Queue, execution: Execution, exc_info: ExcInfo
    ) -> None:
        """The job raised. Never raises."""
        if self._resqued_inside is not None:
            self._resqued_inside.fail(job, queue, execution, exc_info)
            return
        unread = is_undecoded(job, exc_info[1])
        self._resqued_leave_job_code(job)
        try:
            if not unread:
                self._resqued_unread.forget()
            elif self._resqued_unread.is_one_too_many():
                self._resqued_put_back(job, queue, execution, None, 0)
                self._resqued_unread.leave(self._resqued_slot, job.id, why_unread(exc_info[1]))
                self._resqued_done(job, "interrupted", exc_info[1])
                return
            if has_timed_out(exc_info[1]) and self._resqued_slot.signals.cut is None:
                self._resqued_end_descendants(job, self._resqued_slot.writer.record.job_ticks)
            self._resqued_fail(job, queue, execution, exc_info)
        except BaseException:
            self._resqued_give_up(job)

    def _resqued_give_up(self, job: Job) -> None:
        logger.exception(f"outcome of job={job.id} not written")
        self._resqued_slot.leave(Reason.LOOP)  # its phase says what recovery has to do

    def _resqued_call_back(self, job: Job, call: Callable[[], object], seconds: float = 0) -> None:
        """Run a callback or an exception handler, which stop-job and kill-horse cut as they do the
        job itself. seconds: that it may take. Raises what it raises, and the cut.
        """
        slot, began, timed_out = self._resqued_slot, linux.boot_ticks(), False
        slot.step(Phase.RUNNING, patience=slot.patience + max(0.0, seconds))
        try:
            with self._resqued_lend(job):
                slot.signals.commandable(call)
        except BaseException as error:
            timed_out = has_timed_out(error)
            raise
        finally:
            if os.getpid() != slot.pid:
                os._exit(0)
            slot.signals.install()
            slot.boundary.regain()
            slot.step(Phase.RETURNED)
            if timed_out:
                self._resqued_end_descendants(job, began)

    def _resqued_end_descendants(self, job: Job, since: int) -> None:
        """Of a job, or a callback, that was cut. Before its outcome: it may be run again."""
        self._resqued_allow(descendants.LIMIT)
        self._resqued_slot.leftovers.end(job.id, since)

    def _resqued_end_cut(
        self, job: Job, queue: Queue, execution: Execution, error: BaseException | None
    ) -> bool:
        """If the job was cut, give it the outcome that the cut asks for; False if it was not.

        The cut decides, not what the job made of it: it may have caught it and returned, or raised
        something else (error). Never raises.
        """
        cut = self._resqued_slot.signals.decision
        if cut is None:
            return False
        slot = self._resqued_slot
        slot.step(Phase.RETURNED, stopped=_ORDERS.get(cut, Order.NONE))
        if not isinstance(error, Interrupted):
            did = f"raised {type(error).__name__}" if error is not None else "returned"
            logger.info(f"job={job.id} {did} after it had been cut: it counts as cut")
            error = error or cut()
        self._resqued_end_descendants(job, slot.writer.record.job_ticks)
        renew(self.connection)
        self._resqued_leave_after_this()
        limit = slot.config.max_interruptions
        try:
            if cut is Stopped:
                ours = self._resqued_write_stopped(job, queue, execution)
                self._resqued_done(job, "stopped", error, ours=ours)
            elif cut is Killed:
                text = "Work-horse terminated unexpectedly; killed by a kill-horse command; "
                self.handle_work_horse_killed(job, os.getpid(), 9, None)
                self._resqued_end(job, queue, execution, text, error, killed=True)
            elif self._resqued_put_back(job, queue, execution, INTERRUPTIONS, limit):
                self._resqued_done(job, "interrupted", error)
            else:
                job.retries_left = None
                text = f"Interrupted {limit + 1} times by stops of its worker; the limit is {limit}"
                self._resqued_end(job, queue, execution, text, error, killed=True)
        except BaseException:
            self._resqued_give_up(job)
        return True

    def _resqued_fail(
        self, job: Job, queue: Queue, execution: Execution, exc_info: ExcInfo
    ) -> None:
        """The job, its success callback, or the writing of its result failed for good; or it was
        cut in one of its callbacks."""
        if self._resqued_end_cut(job, queue, execution, exc_info[1]):
            return
        if self._resqued_slot.config.unknown_function == "retry" and is_unknown(exc_info[1]):
            off = self._resqued_until_answered(lambda: PutOff(self, job))
            if not off.is_over:
                self._resqued_put_off(off, job, queue, execution, exc_info[1])
                return
            exc_info = raised(off.reason())
        job._status = JobStatus.FAILED
        if job._failure_callback_name:
            call = functools.partial(execute_failure_callback, job, self.death_penalty_class)
            try:
                self._resqued_call_back(
                    job, functools.partial(call, *exc_info), job.failure_callback_timeout
                )
            except BaseException:
                exc_info = sys.exc_info()  # as RQ: what the callback raised is what is recorded
        if self._resqued_end_cut(job, queue, execution, exc_info[1]):
            del exc_info
            return
        if has_timed_out(exc_info[1]):
            renew(self.connection)
            self._resqued_leave_after_this()
        try:
            self._resqued_call_back(job, functools.partial(self.handle_exception, job, *exc_info))
        except BaseException as error:
            if self._resqued_slot.signals.cut is None:
                logger.exception(f"exception handler for job={job.id} failed")
            else:
                exc_info = type(error), error, error.__traceback__
        if not self._resqued_end_cut(job, queue, execution, exc_info[1]):
            self._resqued_end(job, queue, execution, format_exc_info(exc_info), exc_info[1])
        # Its traceback leads back to this frame: it would keep itself, and all the job had in hand.
        del exc_info

    def _resqued_put_off(
        self, off: PutOff, job: Job, queue: Queue, execution: Execution, error: Any
    ) -> None:
        try:
            ours = self._resqued_write(job, queue, execution, lambda: off.write(queue, execution))
        except Unwritable as problem:
            logger.error(f"job={job.id} not put off: {problem}")
            self._resqued_slot.leave(Reason.LOOP)
            return
        self._resqued_done(job, "retried", error, ours=ours)

    def _resqued_end(
        self,
        job: Job,
        queue: Queue,
        execution: Execution,
        text: str,
        error: Any,
        *,
        killed: bool = False,
    ) -> None:
        """killed: by us, so nothing that it raised has been shown to anybody."""
        retried = job.should_retry
        try:
            ours = self._resqued_write_failure(job, queue, execution, text)
        except Unwritable as problem:
            logger.error(f"failure of job={job.id} not written: {problem}")
            self._resqued_slot.leave(Reason.LOOP)
            return
        if killed and ours and not retried:
            self._resqued_tell_trackers(job, text)
        self._resqued_done(job, "retried" if retried else "failed", error, ours=ours)

    def _resqued_tell_trackers(self, job: Job, text: str) -> None:
        tell = functools.partial(tell_trackers, self, job, text)
        if self._resqued_isolation.busy is None:
            tell()
        else:
            self._resqued_isolation.run(job, tell, 0)

    def _resqued_run_stopped_callback(self, job: Job) -> None:
        """In a fresh child, if the job ran in one."""
        call = functools.partial(super()._resqued_run_stopped_callback, job)
        if self._resqued_isolation.busy is None:
            call()
        else:
            self._resqued_isolation.run(job, call, job.stopped_callback_timeout)

    def _resqued_done(
        self, job: Job, status: str, error: BaseException | None, *, ours: bool = True
    ) -> None:
        """The execution is gone from Redis. ours: it was ended with this outcome."""
        slot = self._resqued_slot
        status = status if ours else "superseded"
        began = slot.writer.record.job_started
        seconds = time.monotonic() - began if began else 0.0
        word = "put back" if status == "interrupted" else status
        line = f"{word} job={job.id} queue={job.origin} seconds={seconds:.3f}"
        if status == "finished":
            if slot.alone:
                rqlog.finished(self, job)
            slot.log(line)
        else:
            logger.info(line)
        if self._resqued_isolation.busy is not None:
            slot.step(Phase.WRITTEN)
            self._resqued_isolation.done(status, seconds)
        elif slot.hooks.has("after_job"):
            slot.step(Phase.WRITTEN)
            with self._resqued_lend(job):
                slot.tell("after_job", job=job, outcome=Outcome(status, seconds, error))
        slot.rest(failed=status in ("failed", "stopped"))

    def cleanup_execution(
        self, job: Job, pipeline: Pipeline, execution: Execution | None = None
    ) -> None:
        """In the transaction of every outcome: the worker is idle again."""
        super().cleanup_execution(job, pipeline, execution)
        if self._resqued_succeeds:
            clear_counters(job, pipeline)
        if self._resqued_deaths:
            pipeline.hset(job.key, DEATHS, str(self._resqued_deaths))
        self.set_state(WorkerStatus.IDLE, pipeline)
        self.heartbeat(None, pipeline)


def _empty(job: Job) -> None:
    """Let go of what may be large. RQ's loop holds the job itself until it has the next one."""
    job._instance, job._args, job._kwargs, job._data = None, (), {}, b""
    job._result = job._cached_result = None
