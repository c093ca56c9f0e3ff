"""Write the outcome of a job that ran in a child; done by its worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rq.executions import Execution
from rq.job import Job, JobStatus, Retry
from rq.queue import Queue
from rq.utils import now

from resqued.broker.fencing import DEATHS, read_counter
from resqued.broker.outcome_writer import Unwritable
from resqued.worker.isolation import parcel
from resqued.worker.isolation.child import ChildExit
from resqued.worker.isolation.frames import Frame, FrameKind
from resqued.worker.job.functions import PutOff, seal
from resqued.worker.job.interruptions import Interrupted
from resqued.worker.outcomes import LOST

if TYPE_CHECKING:
    from resqued.worker.context import Context
    from resqued.worker.isolation.entry import IsolatedRunner
    from resqued.worker.outcomes import Outcomes

_KILLED: Final = "Work-horse terminated unexpectedly; "


class ChildOutcomes:
    """The outcomes of one worker's children."""

    def __init__(self, context: Context, runner: IsolatedRunner) -> None:
        self._context = context
        self._runner = runner
        self._writer = runner.writer
        self.word: dict[str, Any] = {}
        """How the last job has ended, for the child: `status`, `seconds`."""

    @property
    def _outcomes(self) -> Outcomes:
        return self._runner.outcomes

    def note_outcome(self, status: str, seconds: float) -> None:
        """Called by `Outcomes.record`: how the job ended."""
        self.word = {"status": status, "seconds": seconds}

    def write_frame(self, frame: Frame, job: Job, queue: Queue, execution: Execution) -> None:
        """The child has reported how its job has ended. Never raises."""
        try:
            self._write_frame(frame, job, queue, execution)
        except BaseException:
            self._outcomes.give_up(job)

    def _write_frame(self, frame: Frame, job: Job, queue: Queue, execution: Execution) -> None:
        unread, facts, parts = self._context.unreadable, frame.facts, list(frame.parts)
        self.word = {}
        seal(job)
        meta = parts.pop() if facts.get("meta") and parts else None
        parcel.apply(job, facts, meta)
        body = parts[0] if parts else None
        if frame.kind is not FrameKind.UNREAD and not facts.get("unread"):
            unread.forget()
        match frame.kind:
            case FrameKind.RETURNED:
                self._write_returned(body, bool(facts.get("none")), job, queue, execution)
            case FrameKind.RETRY:
                retry = Retry(facts["max"], facts["intervals"], bool(facts["front"]))
                self._retry(retry, body, job, queue, execution)
            case FrameKind.PUT_OFF:
                off = self._context.retry.until_answered(lambda: PutOff(self._context.worker, job))
                self._outcomes.put_off(off, job, queue, execution, None)
            case FrameKind.UNREAD:
                unread.reaches_limit()
                why = (body or b"").decode(errors="replace")
                self._outcomes.put_back_unreadable(job, queue, execution, why, None)
            case _:
                if facts.get("unread"):
                    unread.reaches_limit()
                job._status = JobStatus.FAILED
                text = (body or b"").decode(errors="backslashreplace")
                self._outcomes.fail(job, queue, execution, text, None)

    def _write_returned(
        self, data: bytes | None, none: bool, job: Job, queue: Queue, execution: Execution
    ) -> None:
        job._result = None if none else parcel.seal_result(job, data)
        job._status = JobStatus.FINISHED
        try:
            self._outcomes.write_success(job, queue, execution)
        except Unwritable as error:
            text = f"{type(error).__name__}: {error}"
            self._outcomes.fail(job, queue, execution, text, error)

    def _retry(
        self, retry: Retry, data: bytes | None, job: Job, queue: Queue, execution: Execution
    ) -> None:
        sealed: Any = parcel.seal_result(job, data)
        # RQ reads these attributes, and stores the object.
        sealed.max, sealed.intervals = retry.max, retry.intervals
        sealed.enqueue_at_front = retry.enqueue_at_front
        job._result = sealed
        self._outcomes.retry(job, queue, execution, sealed)

    # Without a frame.

    def write_cut(
        self, cut: type[Interrupted], pid: int, job: Job, queue: Queue, execution: Execution
    ) -> None:
        """The job was cut by a command or a stop with `now`. Never raises. Its child was killed, or
        there was none yet, and pid is the worker's."""
        self._end(job)
        self._outcomes.write_cut(cut, pid, job, queue, execution, None)

    def write_death(
        self, death: ChildExit, pid: int, why: str, job: Job, queue: Queue, execution: Execution
    ) -> None:
        """The child has died without a frame. Never raises. As RQ does with a dead horse, and as
        the settings for deaths say."""
        self._end(job)
        try:
            self._write_death(death, pid, why, job, queue, execution)
        except BaseException:
            self._outcomes.give_up(job)
        finally:
            self._writer.deaths = 0
        if status := self.word.get("status"):
            self._context.slot.note_lost(job.id, LOST.get(status, status))

    def _write_death(
        self, death: ChildExit, pid: int, why: str, job: Job, queue: Queue, execution: Execution
    ) -> None:
        worker, config = self._context.worker, self._context.slot.config
        deaths = 1 + read_counter(
            self._context.retry.until_answered(lambda: worker.connection.hget(job.key, DEATHS))
        )
        last = deaths >= config.max_deaths
        memory = death.rusage.ru_maxrss * 1024 if death.rusage else 0
        self._writer.tell(execution.id, self._outcomes.story.put_back(why))
        if config.on_worker_death == "requeue" and self._writer.put_back(
            job, queue, execution, DEATHS, config.max_deaths - 1
        ):
            self._outcomes.record(job, "interrupted", None, text=why, killed=True)
            return
        text = f"{_KILLED}waitpid returned {death.status}; {why}"
        if last:
            job.retries_left = None
            text += f"\nIt has killed its process {deaths} times, which is the limit."
        self._runner.callbacks.report_killed(job, pid, death.status, death.rusage)
        self._writer.deaths = deaths
        self._outcomes.fail(job, queue, execution, text, None, killed=why, memory=memory)

    def _end(self, job: Job) -> None:
        self.word = {}
        seal(job)
        job.ended_at = job.last_heartbeat = now()
        if job.started_at is None:
            job.started_at = job.ended_at
