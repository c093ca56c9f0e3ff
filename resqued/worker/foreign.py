"""Other worker classes in a slot: `-w rq.Worker`, `rq.SimpleWorker`, a user's own.

They take, wait, listen and leave as ours does; how they run a job stays theirs. What cannot be
interrupted is killed, horse and worker, and recovered. Our code stands between theirs and RQ's
(`between`): what they override is called, and calls ours.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from typing import Any, Final

from redis.client import Pipeline
from rq.command import handle_command
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.utils import as_text
from rq.worker import BaseWorker, WorkerStatus

from resqued import descendants, isolation, linux
from resqued.broker.connection import NO_ANSWER, Outage, until_answered
from resqued.broker.executions import LONGEST_TTL
from resqued.broker.fencing import DEATHS, INTERRUPTIONS, clear_counters, counted, exists, requeue
from resqued.broker.owner import leave
from resqued.broker.repetition import redo_what_is_refused
from resqued.config import Config
from resqued.linux import set_parent_death_signal
from resqued.logs import logger
from resqued.records import Outcome
from resqued.scoreboard import Phase, Reason
from resqued.verdicts import ConfigError
from resqued.worker import classes
from resqued.worker.between import put_between
from resqued.worker.interrupting import Interrupted, has_timed_out, ignore_in_horse
from resqued.worker.peeking import function_of
from resqued.worker.performing import Performing
from resqued.worker.slotted import Slotted
from resqued.worker.unknown import PutOff, is_unknown, raised
from resqued.worker.unread import is_decodable

_HORSE: Final = 90.0  # RQ looks at its horse every 30 s, and kills it 60 s after the timeout


def make_worker_class(config: Config) -> Any:
    """The class to run: the user's, with our slot mixed in if it is not ours.

    Raises ConfigError.
    """
    cls = classes.worker_class(config)
    check_isolation(config, cls)
    return cls if issubclass(cls, Slotted) else put_between(cls, Foreign)


def check_isolation(config: Config, cls: type[BaseWorker]) -> None:
    """Only resqued's way of running jobs knows children for them. Raises ConfigError."""
    if isolation.forks(config.isolation) and not issubclass(cls, Performing):
        raise ConfigError(
            "isolation",
            f"fork cannot be had with the worker class {config.worker_class!r}, which runs jobs its"
            " own way",
            remedy="leave one of the two out, or derive the class from"
            " resqued.worker.rq_worker.ResquedWorker",
        )


class Foreign(Slotted):
    """Put between a class that runs jobs its own way and RQ's."""

    _resqued_begun: tuple[Job, Execution] | None = None
    """What the class was given and has begun, until it is seen to have an outcome."""

    _resqued_horse_died = False
    _resqued_deaths = 0  # of workers, and their horses, with the job in hand
    _resqued_horse_outcome = ""  # what the horse could not tell the hooks itself

    def bootstrap(self, *args: Any, **kwargs: Any) -> None:
        super().bootstrap(*args, **kwargs)
        self._resqued_slot.signals.on_drain = self._resqued_stop_warmly
        self._resqued_slot.signals.on_now = self._resqued_die_now

    def prepare_execution(self, job: Job) -> Any:
        """RQ's, and in the same transaction the job is no longer merely taken."""
        if self._resqued_taken is None:
            return super().prepare_execution(job)
        ttl = self.get_heartbeat_ttl(job)
        with self.connection.pipeline() as pipeline:
            execution = Execution.create(job, ttl, pipeline, worker_name=self.name)
            self.set_state(WorkerStatus.BUSY, pipeline)
            ours = self._resqued_begin(execution, pipeline)
        if not ours:
            raise _NotOurs
        self._resqued_begun = job, execution
        return execution

    def cleanup_execution(
        self, job: Job, pipeline: Pipeline, execution: Execution | None = None
    ) -> None:
        """In the transaction of every outcome, in the horse or here: nobody holds the job."""
        if execution is not None:
            leave(pipeline, execution)
        if self._resqued_succeeds:
            clear_counters(job, pipeline)
        if self._resqued_horse_died and self._resqued_deaths:
            pipeline.hset(job.key, DEATHS, str(self._resqued_deaths))
        super().cleanup_execution(job, pipeline, execution)
        redo_what_is_refused(pipeline, self.connection)

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: float | None = None
    ) -> tuple[Job, Queue] | None:
        """Also sees to the last job, where the class's `execute_job` did not call ours."""
        self._resqued_settle()
        return super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)

    def execute_job(self, job: Job, queue: Queue) -> None:
        """RQ's, between the phases that recovery needs to know."""
        slot = self._resqued_slot
        try:
            slot.writer.update(
                function=function_of(job),
                job_timeout=self._resqued_timeout_of(job),
                job_ticks=linux.boot_ticks(),
            )
            slot.show(f"{function_of(job)} since {time.strftime('%H:%M:%S')}")
            logger.info(f"took job={job.id} queue={job.origin} function={function_of(job)}")
            if is_decodable(job):
                self._resqued_unread.forget()
            elif self._resqued_unread.is_one_too_many():
                self._resqued_give_back()
                self._resqued_unread.leave(slot, job.id, "not what this serializer writes")
                return
            super().execute_job(job, queue)
        except _NotOurs:
            return
        except BaseException as error:
            if not self._resqued_spoiled(queue, error):
                raise
            return
        self._resqued_settle()

    def _resqued_timeout_of(self, job: Job) -> float:
        return float(min(job.timeout or self.queue_class.DEFAULT_TIMEOUT, LONGEST_TTL))

    def _resqued_settle(self) -> None:
        """See that the job has an outcome; RQ only logs when it could not write one."""
        if self._resqued_begun is None:
            return
        (job, execution), self._resqued_begun = self._resqued_begun, None
        slot = self._resqued_slot
        slot.signals.install()

        def ask() -> bool:
            return exists(self.connection, job, execution)

        if until_answered(ask, Outage(slot.config), slot.turn):
            logger.error(f"outcome of job={job.id} not written; leaving it to recovery")
            slot.leave(Reason.LOOP)
            return
        self.executions.pop(execution.id, None)
        status = until_answered(
            lambda: self.connection.hget(job.key, "status"),
            Outage(slot.config),
            slot.turn,
        )
        word = self._resqued_horse_outcome or _word_for(job, as_text(status) if status else "")
        began = slot.writer.record.job_started
        seconds = time.monotonic() - began if began else 0.0
        slot.step(Phase.WRITTEN)
        shown = "put back" if word == "interrupted" else word
        logger.info(f"{shown} job={job.id} queue={job.origin} seconds={seconds:.3f}")
        if self._resqued_horse_outcome:
            slot.tell("after_job", job=job, outcome=Outcome(word, seconds, None))
        slot.rest(failed=word in ("failed", "stopped"))
        slot.show("idle")

    # In the process that runs the job: the horse, or the worker of a class that does not fork.

    def prepare_job_execution(self, job: Job, remove_from_intermediate_queue: bool = False) -> None:
        self._resqued_began = time.monotonic()
        super().prepare_job_execution(job, remove_from_intermediate_queue)  # may raise: unpickles
        slot = self._resqued_slot
        if not self.is_horse:
            limit = self._resqued_timeout_of(job)
            self._resqued_run_from_now(limit + slot.config.kill_after if limit > 0 else 0)
        slot.tell("before_job", job=job)
        job.perform = functools.partial(self._resqued_run, job)  # type: ignore[method-assign]

    def _resqued_run(self, job: Job) -> Any:
        perform = functools.partial(type(job).perform, job)
        return self._resqued_slot.hooks.perform(
            perform, worker=self._resqued_slot.snapshot(), job=job
        )

    def _resqued_run_from_now(self, patience: float, **changes: Any) -> None:
        self._resqued_slot.step(Phase.RUNNING, patience, job_started=time.monotonic(), **changes)

    def _finalize_success(self, job: Job, *args: Any, **kwargs: Any) -> None:
        super()._finalize_success(job, *args, **kwargs)
        retried = job.get_status(refresh=False) is not JobStatus.FINISHED
        self._resqued_tell_after(job, "retried" if retried else "finished", None)

    def _finalize_failure(
        self, job: Job, queue: Queue, execution: Execution, exc_info: Any
    ) -> None:
        if self._resqued_slot.config.unknown_function == "retry" and is_unknown(exc_info[1]):
            try:
                off = PutOff(self, job)
                if not off.is_over:
                    off.write(queue, execution)
                    self._resqued_tell_after(job, "retried", exc_info[1])
                    return
                exc_info = raised(off.reason())
            except NO_ANSWER as error:
                logger.warning(f"job={job.id} not put off: {error}")
        retried = job.should_retry
        if has_timed_out(exc_info[1]):
            slot = self._resqued_slot
            slot.leftovers.end(job.id, slot.writer.record.job_ticks)
        super()._finalize_failure(job, queue, execution, exc_info)
        self._resqued_tell_after(job, "retried" if retried else "failed", exc_info[1])

    def _resqued_tell_after(self, job: Job, status: str, error: BaseException | None) -> None:
        seconds = time.monotonic() - self._resqued_began
        self._resqued_slot.tell("after_job", job=job, outcome=Outcome(status, seconds, error))

    # The horse.

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        """The record names the horse, so that it can be killed and shown."""
        parent: Any = super()
        parent.fork_work_horse(job, queue)
        self._resqued_run_from_now(self._resqued_slot.patience + _HORSE, horse=self.horse_pid)
        self._resqued_hear()  # it was told before there was a horse to be killed

    def monitor_work_horse(self, job: Job, queue: Queue, execution: Execution) -> None:
        parent: Any = super()
        self._resqued_horse_outcome = ""
        try:
            parent.monitor_work_horse(job, queue, execution)
        except _Interrupted:
            self._horse_pid = 0
            self.executions.pop(execution.id, None)
            self._resqued_interrupt(job, queue, execution)
        finally:
            self._resqued_horse_died = False
        self._resqued_slot.step(Phase.RETURNED, horse=0)

    def wait_for_horse(self) -> Any:
        """RQ's. A horse that has been killed since its worker has to stop now is no dead one."""
        ended = super().wait_for_horse()
        if self._resqued_slot.now and ended[1] and not self.is_horse:
            raise _Interrupted
        return ended

    def _resqued_interrupt(self, job: Job, queue: Queue, execution: Execution) -> None:
        """Put the job back, unless it has an outcome; at the limit it fails."""
        limit = self._resqued_slot.config.max_interruptions
        try:
            if not exists(self.connection, job, execution):
                return
            times = counted(self.connection.hget(job.key, INTERRUPTIONS)) + 1
            if times > limit:
                job.retries_left = None
                self._resqued_horse_outcome = "failed"
                text = f"Interrupted {times} times by stops of its worker; the limit is {limit}"
                self.handle_job_failure(job, queue, exc_string=text, execution=execution)
                return
            with self.connection.pipeline() as pipeline:
                self.cleanup_execution(job, pipeline, execution)
                requeue(job, queue, pipeline)
                pipeline.hset(job.key, INTERRUPTIONS, str(times))
                pipeline.execute()
            self._resqued_horse_outcome = "interrupted"
        except NO_ANSWER as error:  # `_resqued_settle` leaves it to recovery
            logger.warning(f"job={job.id} not put back: {error}")

    def _handle_stopped_job(self, job: Job, queue: Queue, execution: Execution) -> None:
        parent: Any = super()
        parent._handle_stopped_job(job, queue, execution)
        self._resqued_horse_outcome = "stopped"

    def handle_work_horse_killed(self, job: Job, *args: Any) -> None:
        """RQ calls it before it fails the job of a horse that has died."""
        self._resqued_horse_died, self._resqued_deaths = True, 0
        super().handle_work_horse_killed(job, *args)

    def handle_job_failure(
        self,
        job: Job,
        queue: Queue,
        started_job_registry: Any = None,
        exc_string: str = "",
        execution: Execution | None = None,
    ) -> None:
        """RQ's; a horse's death is counted, and the settings for deaths hold for it."""
        if self._resqued_horse_died and execution is not None:
            try:
                exc_string += self._resqued_count_death(job, queue, execution)
            except NO_ANSWER as error:
                logger.warning(f"death of the horse of job={job.id} not written: {error}")
                return  # `_resqued_settle` leaves it to recovery
            if self._resqued_horse_outcome == "interrupted":
                return
        super().handle_job_failure(job, queue, started_job_registry, exc_string, execution)

    def _resqued_count_death(self, job: Job, queue: Queue, execution: Execution) -> str:
        """What is added to the reason; or the job is put back, if that is the policy."""
        config = self._resqued_slot.config
        self._resqued_deaths = deaths = counted(self.connection.hget(job.key, DEATHS)) + 1
        last = deaths >= config.max_deaths
        if config.on_worker_death == "requeue" and not last:
            with self.connection.pipeline() as pipeline:
                self.cleanup_execution(job, pipeline, execution)
                requeue(job, queue, pipeline)
                pipeline.execute()
            self._resqued_horse_outcome = "interrupted"
            return ""
        if last:
            job.retries_left = None
        self._resqued_horse_outcome = "retried" if job.should_retry else "failed"
        return f"\nIt has killed its worker {deaths} times, which is the limit." if last else ""

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        """Runs in the horse: it must not go on alone, since its job will be recovered."""
        ignore_in_horse()
        set_parent_death_signal(signal.SIGKILL)
        if os.getppid() != self._resqued_slot.pid:
            os._exit(1)
        parent: Any = super()
        parent.main_work_horse(job, queue)

    def kill_horse(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """Never our own group: where the horse still is, just forked, and where pid 0 would be."""
        horse = self.horse_pid
        if not horse:
            return
        slot = self._resqued_slot
        since = slot.writer.record.job_ticks
        listed = slot.leftovers.find(since) if sig == signal.SIGKILL and since else []
        with contextlib.suppress(ProcessLookupError):
            alone = os.getpgid(horse) == horse
            (os.killpg if alone else os.kill)(horse, sig)
        descendants.kill(listed)

    # Told to stop.

    def _resqued_stop_warmly(self) -> None:
        """In the handler, once: what the class does on a warm stop, if it does anything."""
        if type(self).handle_warm_shutdown_request is not BaseWorker.handle_warm_shutdown_request:
            self.handle_warm_shutdown_request()

    def _resqued_die_now(self) -> None:
        """In the handler: a job that cannot be interrupted goes with its process."""
        if not self._resqued_slot.writer.record.phase.holds_job:
            return
        if self.horse_pid:
            self.kill_horse()  # then the job is put back
        else:
            os.kill(os.getpid(), signal.SIGKILL)

    def _resqued_cut_for(self, command: dict[str, Any]) -> type[Interrupted] | None:
        """In the handler: RQ's own way with commands, which is to kill the horse."""
        if self.executions:
            handle_command(self, command)
            self._resqued_slot.writer.update(stopped=int(self._stopped_job_id is not None))
        return None


def _word_for(job: Job, status: str) -> str:
    """How a job has ended, from its status in Redis; empty: it is gone, with no result to keep."""
    if status in ("", "finished") or (job.repeats_left and not job.retries_left):
        return "failed" if status == "failed" else "finished"
    return status if status in ("failed", "stopped") else "retried"


class _Interrupted(Exception):
    """The horse was killed so that its job can be put back."""


class _NotOurs(Exception):
    """The job that was taken is not ours any more."""
