"""What becomes of a job that ran in a child: its outcome, written by the worker."""

from __future__ import annotations

from typing import Any, Final

from rq.executions import Execution
from rq.job import Job, JobStatus, Retry
from rq.queue import Queue
from rq.utils import now

from resqued.broker.fencing import DEATHS, INTERRUPTIONS, counted
from resqued.logs import logger
from resqued.worker.interrupting import Interrupted, Killed
from resqued.worker.isolation import parcel
from resqued.worker.isolation.child import Death
from resqued.worker.isolation.frames import Frame, Kind
from resqued.worker.peeking import seal
from resqued.worker.unknown import PutOff
from resqued.worker.writing import Unwritable

_KILLED: Final = "Work-horse terminated unexpectedly; "


class Verdict:
    """One worker's. worker: `Performing`."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self.word: dict[str, Any] = {}
        """How the last job has ended, for the child: `status`, `seconds`."""

    def done(self, status: str, seconds: float) -> None:
        """`_resqued_done` says how it ended."""
        self.word = {"status": status, "seconds": seconds}

    def of_frame(self, frame: Frame, job: Job, queue: Queue, execution: Execution) -> None:
        """The child has said how its job has ended. Never raises."""
        try:
            self._of_frame(frame, job, queue, execution)
        except BaseException:
            self._worker._resqued_give_up(job)

    def _of_frame(self, frame: Frame, job: Job, queue: Queue, execution: Execution) -> None:
        worker, facts, parts = self._worker, frame.facts, list(frame.parts)
        self.word = {}
        seal(job)
        meta = parts.pop() if facts.get("meta") and parts else None
        parcel.apply(job, facts, meta)
        body = parts[0] if parts else None
        if frame.kind is not Kind.UNREAD and not facts.get("unread"):
            worker._resqued_unread.forget()
        match frame.kind:
            case Kind.RETURNED:
                self._returned(body, bool(facts.get("none")), job, queue, execution)
            case Kind.RETRY:
                retry = Retry(facts["max"], facts["intervals"], bool(facts["front"]))
                self._retry(retry, body, job, queue, execution)
            case Kind.PUT_OFF:
                off = worker._resqued_until_answered(lambda: PutOff(worker, job))
                worker._resqued_put_off(off, job, queue, execution, None)
            case Kind.UNREAD:
                worker._resqued_unread.is_one_too_many()
                worker._resqued_put_back(job, queue, execution, None, 0)
                why = (body or b"").decode(errors="replace")
                worker._resqued_unread.leave(worker._resqued_slot, job.id, why)
                worker._resqued_done(job, "interrupted", None)
            case _:
                if facts.get("unread"):
                    worker._resqued_unread.is_one_too_many()
                job._status = JobStatus.FAILED
                text = (body or b"").decode(errors="backslashreplace")
                worker._resqued_end(job, queue, execution, text, None)

    def _returned(
        self, data: bytes | None, none: bool, job: Job, queue: Queue, execution: Execution
    ) -> None:
        worker = self._worker
        job._result = None if none else parcel.seal_result(job, data)
        job._status = JobStatus.FINISHED
        try:
            ours = worker._resqued_write_success(job, queue, execution)
        except Unwritable as error:
            worker._resqued_end(job, queue, execution, f"{type(error).__name__}: {error}", error)
            return
        if ours:
            job.send_webhooks(JobStatus.FINISHED)
        worker._resqued_done(job, "finished", None, ours=ours)

    def _retry(
        self, retry: Retry, data: bytes | None, job: Job, queue: Queue, execution: Execution
    ) -> None:
        worker = self._worker
        sealed: Any = parcel.seal_result(job, data)
        # RQ both asks it and stores it.
        sealed.max, sealed.intervals = retry.max, retry.intervals
        sealed.enqueue_at_front = retry.enqueue_at_front
        job._result = sealed  # and saves it with the job
        ours = worker._resqued_write_retry(job, queue, execution, sealed)
        failed = job.get_status(refresh=False) is JobStatus.FAILED
        worker._resqued_done(job, "failed" if failed else "retried", None, ours=ours)

    # Without a word of the child's.

    def stopped(self, job: Job, queue: Queue, execution: Execution) -> None:
        """Somebody has stopped the job, and its child was killed. Never raises."""
        worker = self._worker
        self._end(job)
        try:
            ours = worker._resqued_write_stopped(job, queue, execution)
            worker._resqued_done(job, "stopped", None, ours=ours)
        except BaseException:
            worker._resqued_give_up(job)

    def of_cut(
        self, cut: type[Interrupted], pid: int, job: Job, queue: Queue, execution: Execution
    ) -> None:
        """Its child was killed for a kill-horse, or since the worker stops now. Never raises."""
        worker = self._worker
        self._end(job)
        limit = worker._resqued_slot.config.max_interruptions
        try:
            if cut is Killed:
                self._tell_killed(job, pid, 9, None)
                text = f"{_KILLED}killed by a kill-horse command; "
                worker._resqued_end(job, queue, execution, text, None, killed=True)
            elif worker._resqued_put_back(job, queue, execution, INTERRUPTIONS, limit):
                worker._resqued_done(job, "interrupted", None)
            else:
                job.retries_left = None
                text = f"Interrupted {limit + 1} times by stops of its worker; the limit is {limit}"
                worker._resqued_end(job, queue, execution, text, None, killed=True)
        except BaseException:
            worker._resqued_give_up(job)

    def of_death(
        self, death: Death, pid: int, why: str, job: Job, queue: Queue, execution: Execution
    ) -> None:
        """Its child has died without a word. As RQ does with a dead horse, and what the settings
        say of deaths. Never raises."""
        worker, config = self._worker, self._worker._resqued_slot.config
        self._end(job)
        logger.warning(f"job={job.id}: {why}")
        try:
            deaths = 1 + counted(
                worker._resqued_until_answered(lambda: worker.connection.hget(job.key, DEATHS))
            )
            last = deaths >= config.max_deaths
            if config.on_worker_death == "requeue" and worker._resqued_put_back(
                job, queue, execution, DEATHS, config.max_deaths - 1
            ):
                worker._resqued_done(job, "interrupted", None)
                return
            text = f"{_KILLED}waitpid returned {death.status}; {why}"
            if last:
                job.retries_left = None
                text += f"\nIt has killed its process {deaths} times, which is the limit."
            self._tell_killed(job, pid, death.status, death.rusage)
            worker._resqued_deaths = deaths
            worker._resqued_end(job, queue, execution, text, None, killed=True)
        except BaseException:
            worker._resqued_give_up(job)
        finally:
            worker._resqued_deaths = 0

    def _end(self, job: Job) -> None:
        self.word = {}
        seal(job)
        job.ended_at = job.last_heartbeat = now()
        if job.started_at is None:
            job.started_at = job.ended_at

    def _tell_killed(self, job: Job, pid: int, status: int, rusage: Any) -> None:
        try:
            self._worker.handle_work_horse_killed(job, pid, status, rusage)
        except Exception:  # the user's
            logger.exception(f"handle_work_horse_killed of job={job.id} failed")
