"""Run other worker classes in a slot: `-w rq.Worker`, `rq.SimpleWorker`, a user's own.

They take jobs, wait, listen and exit in resqued's way, and run jobs in their own. What cannot be
interrupted is killed, horse and worker, and recovered. resqued's class comes between theirs and
RQ's (`mro`). An argument rqs is the method of RQ that is replaced.
"""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from redis.client import Pipeline
from rq.command import handle_command
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.utils import as_text
from rq.worker import BaseWorker, WorkerStatus

from resqued import linux, logs
from resqued.broker import story
from resqued.broker.bad_data import redo_what_is_refused
from resqued.broker.fencing import DEATHS, clear_counters, exists
from resqued.broker.outages import NO_ANSWER
from resqued.broker.owner import remove_running
from resqued.logs import LogEvent
from resqued.scoreboard import Order, Phase, Reason
from resqued.snapshots import Outcome
from resqued.worker.classes.horse import Horse
from resqued.worker.fetcher import FAIL_EXECUTION
from resqued.worker.idle import TURN
from resqued.worker.job.functions import PutOff, exc_info_of, function_of, is_unknown
from resqued.worker.job.interruptions import NO_REASON, Interrupted, has_timed_out
from resqued.worker.job.lines import log_end, log_start
from resqued.worker.job.unreadable import is_decodable
from resqued.worker.job.wrapped import run_wrapped
from resqued.worker.outcomes import LOST

if TYPE_CHECKING:
    from resqued.worker.parts import WorkerParts


class ForeignRunner:
    """The runner of a worker whose class runs jobs in its own way. Also in its horses."""

    def __init__(self, parts: WorkerParts) -> None:
        self._context = parts.context
        self._slot = parts.slot
        self._worker = parts.worker
        self._in_hand = parts.in_hand
        self._begun: tuple[Job, Execution] | None = None
        """The job that the class was given and has begun, until it is seen to have an outcome."""
        self._succeeds = False
        self._began = 0.0
        self.horse = Horse(parts.context, parts.commands)
        self._wraps = self._slot.hooks.has("perform_job")

    # As `Runner`.

    def start(self) -> None:
        """Set what happens when the worker is asked to stop."""
        self._slot.signals.on_drain = self._stop_warmly
        self._slot.signals.on_now = self._die_now

    def close(self) -> None:
        """Nothing: no horse is left by then."""

    def rest(self) -> float:
        """Nothing to do."""
        return TURN

    def drop_stray(self, job_id: str, execution_id: str) -> None:
        """Nothing: the steward does it."""

    def cut_for(self, command: dict[str, Any]) -> type[Interrupted] | None:
        """Obey a command as RQ does, by killing the horse. Runs in a signal handler. A class that
        does not fork cannot be interrupted: then its worker is killed, and the recovery fails the
        job."""
        if command["command"] == FAIL_EXECUTION:
            self._slot.writer.update(stopped=Order.FAIL)
            self.horse.kill_to_fail(self._slot.writer.order_reason or NO_REASON)
        elif self._worker.executions:
            handle_command(self._worker, command)
            self._slot.writer.update(stopped=int(self._worker._stopped_job_id is not None))
        return None

    # Around the class's `execute_job`.

    def prepare_execution(self, rqs: Callable[[Job], Any], job: Job) -> Any:
        """As RQ's, and the same transaction removes the claim."""
        worker = self._worker
        if self._in_hand.taken is None:
            return rqs(job)
        self.horse.begin()
        ttl = worker.get_heartbeat_ttl(job)
        with worker.connection.pipeline() as pipeline:
            execution = Execution.create(job, ttl, pipeline, worker_name=worker.name)
            worker.set_state(WorkerStatus.BUSY, pipeline)
            owned = self._in_hand.begin(execution, pipeline)
        if not owned:
            raise _NotOwned
        self._begun = job, execution
        return execution

    def succeed(self, rqs: Callable[[], None]) -> None:
        """Replaces BaseWorker.handle_job_success."""
        self._succeeds = True
        try:
            rqs()
        finally:
            self._succeeds = False

    def clean_up(
        self,
        rqs: Callable[..., None],
        job: Job,
        pipeline: Pipeline,
        execution: Execution | None,
    ) -> None:
        """Add to the transaction of every outcome, in the horse or here: the job has no owner."""
        if execution is not None:
            remove_running(pipeline, execution)
        if self._succeeds:
            clear_counters(job, pipeline)
        if self.horse.deaths:
            pipeline.hset(job.key, DEATHS, str(self.horse.deaths))
        story.add(pipeline, job.id, self.horse.event)
        rqs(job, pipeline, execution)
        redo_what_is_refused(pipeline, self._worker.connection)

    def execute(self, rqs: Callable[[Job, Queue], None], job: Job, queue: Queue) -> None:
        """RQ's `execute_job`, with the phases that recovery needs on the record."""
        slot, unread = self._slot, self._context.unreadable
        try:
            slot.writer.update(
                function=function_of(job),
                job_timeout=self._context.seconds_of(job),
                job_ticks=linux.boot_ticks(),
            )
            slot.show(f"{function_of(job)} since {time.strftime('%H:%M:%S')}")
            log_start(slot, job, function_of(job), failure_follows=False)
            if is_decodable(job):
                unread.forget()
            elif unread.reaches_limit():
                self._in_hand.give_back(why="its worker could not read it")
                unread.leave(slot, job.id, "not what this serializer writes")
                return
            slot.counts.start(job)
            rqs(job, queue)
        except _NotOwned:
            return
        except BaseException as error:
            if not self._in_hand.fail_unstarted(queue, error):
                raise
            return
        self.settle()

    def settle(self) -> None:
        """Check that the job has an outcome: RQ only logs when it could not write one. Also called
        before the next look, in case the class's `execute_job` did not call resqued's."""
        if self._begun is None:
            return
        (job, execution), self._begun = self._begun, None
        slot, worker, retry = self._slot, self._worker, self._context.retry
        slot.signals.install()
        if retry.until_answered(lambda: exists(worker.connection, job, execution)):
            logs.error(
                f"outcome of job={job.id} not written; leaving it to recovery",
                LogEvent.JOB_NOTICE,
                job=job.id,
            )
            slot.leave(Reason.LOOP)
            return
        worker.executions.pop(execution.id, None)
        status = retry.until_answered(lambda: worker.connection.hget(job.key, "status"))
        word = self.horse.outcome or _word_for(job, as_text(status) if status else "")
        began = slot.writer.record.job_started
        seconds = time.monotonic() - began if began else 0.0
        slot.counts.end(word, seconds if began else None)
        slot.step(Phase.WRITTEN)
        log_end(slot, job, word, seconds, text=self.horse.why, killed=bool(self.horse.why))
        if self.horse.outcome:
            slot.call_hook("after_job", job=job, outcome=Outcome(word, seconds, None))
        slot.become_idle(failed=word in ("failed", "stopped"))
        if self.horse.lost:
            slot.note_lost(job.id, LOST.get(word, word))
        slot.show("idle")

    # In the process that runs the job: the horse, or the worker of a class that does not fork.

    def prepare(self, rqs: Callable[[], None], job: Job) -> None:
        """Replaces `prepare_job_execution`."""
        self._began = time.monotonic()
        rqs()  # may raise: unpickles
        slot, seconds = self._slot, self._context.seconds_of(job)
        limit = seconds + slot.config.kill_after if seconds > 0 else 0
        slot.step(Phase.RUNNING, limit, job_started=self._began)  # in a horse it is not published
        slot.call_hook("before_job", job=job)
        if self._wraps:
            job.perform = functools.partial(self._run, job)  # type: ignore[method-assign]

    def _run(self, job: Job) -> Any:
        perform = functools.partial(type(job).perform, job)
        return run_wrapped(self._slot, job, perform)

    def finalize_success(self, rqs: Callable[[], None], job: Job) -> None:
        """Replaces `_finalize_success`."""
        rqs()
        retried = job.get_status(refresh=False) is not JobStatus.FINISHED
        self._call_after_job(job, "retried" if retried else "finished", None)

    def finalize_failure(
        self, rqs: Callable[..., None], job: Job, queue: Queue, execution: Execution, exc_info: Any
    ) -> None:
        """Replaces `_finalize_failure`."""
        slot = self._slot
        if slot.config.unknown_function == "retry" and is_unknown(exc_info[1]):
            try:
                off = PutOff(self._worker, job)
                if not off.is_over:
                    why = f"its function is unknown: {job.func_name}"
                    self.horse.event = self.horse.events.put_off(why)
                    off.write(queue, execution)
                    logs.warning(
                        f"job={job.id} waits for its function {job.func_name!r}, which is not"
                        f" known here: {off.again}",
                        LogEvent.JOB_NOTICE,
                        job=job.id,
                    )
                    self._call_after_job(job, "retried", exc_info[1])
                    return
                exc_info = exc_info_of(off.reason())
            except NO_ANSWER as error:
                logs.warning(f"job={job.id} not put off: {error}", LogEvent.JOB_NOTICE, job=job.id)
        retried = job.should_retry
        if retried:
            why = f"{type(exc_info[1]).__name__}: {exc_info[1]}"
            self.horse.event = self.horse.events.retried(job, why)
        if has_timed_out(exc_info[1]):
            slot.leftovers.end(job.id, slot.writer.record.job_ticks)
        rqs(job, queue, execution, exc_info)
        self._call_after_job(job, "retried" if retried else "failed", exc_info[1])

    def _call_after_job(self, job: Job, status: str, error: BaseException | None) -> None:
        seconds = time.monotonic() - self._began
        self._slot.call_hook("after_job", job=job, outcome=Outcome(status, seconds, error))

    # Stopping.

    def _stop_warmly(self) -> None:
        """In the signal handler, once: do what the class does on a warm stop, if anything."""
        rqs = BaseWorker.handle_warm_shutdown_request
        if type(self._worker).handle_warm_shutdown_request is not rqs:
            self._worker.handle_warm_shutdown_request()

    def _die_now(self) -> None:
        """In the signal handler: a job that cannot be interrupted is killed with its process."""
        if not self._slot.writer.record.phase.holds_job:
            return
        if self._worker.horse_pid:
            self._worker.kill_horse()  # then the job is put back
        else:
            os.kill(os.getpid(), signal.SIGKILL)


def _word_for(job: Job, status: str) -> str:
    """How a job has ended, by its status in Redis; empty: it is gone, with no result to keep."""
    if status in ("", "finished") or (job.repeats_left and not job.retries_left):
        return "failed" if status == "failed" else "finished"
    return status if status in ("failed", "stopped") else "retried"


class _NotOwned(Exception):
    """The claimed job no longer belongs to this worker."""
