"""The log lines of a job: its start, and how it has ended."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rq.job import Retry

from resqued import logs
from resqued.logs import LogEvent
from resqued.logs.plain_values import rfc3339
from resqued.logs.tracebacks import shorten, summary
from resqued.worker.job.counts import waited

if TYPE_CHECKING:
    from rq.job import Job

    from resqued.worker.slot import WorkerSlot

_EVENTS: Final = {
    "finished": (LogEvent.JOB_FINISHED, "INFO"),
    "failed": (LogEvent.JOB_FAILED, "ERROR"),
    "retried": (LogEvent.JOB_RETRIED, "WARNING"),
    "stopped": (LogEvent.JOB_STOPPED, "INFO"),
    "interrupted": (LogEvent.JOB_INTERRUPTED, "INFO"),
    "superseded": (LogEvent.JOB_SUPERSEDED, "INFO"),
}


_NOTHING: Final[dict[str, Any]] = {}


@dataclass(frozen=True)
class Again:
    """When a job is tried again: in so many seconds, and how often it will be after that."""

    seconds: float
    left: int

    @classmethod
    def of(cls, job: Job) -> Again | None:
        """What RQ will do with the job when it fails now; None: it is not tried again."""
        if not job.should_retry:
            return None
        try:
            seconds = float(job.get_retry_interval() or 0)
        except Exception:  # RQ raises the same when it writes the failure
            seconds = 0.0
        return cls(seconds, int(job.retries_left or 0) - 1)

    @classmethod
    def returned(cls, retry: Any, tried: int) -> Again:
        """For a job that has returned this Retry. tried: how often it had before."""
        seconds = float(Retry.get_interval(tried, retry.intervals) or 0)
        return cls(seconds, max(0, int(retry.max) - tried - 1))

    def __str__(self) -> str:
        left = f"{self.left} {'retry' if self.left == 1 else 'retries'} left"
        if self.seconds <= 0:
            return f"again at once, {left}"
        at = time.strftime("%H:%M:%S", time.localtime(time.time() + self.seconds))
        return f"again in {self.seconds:g} s, at {at}, {left}"

    def fields(self) -> dict[str, Any]:
        """`retry_at` and `retries_left`."""
        at = datetime.fromtimestamp(min(time.time() + self.seconds, _LATEST), UTC)
        return {"retry_at": rfc3339(at), "retries_left": self.left}


_LATEST: Final = 2.5e11  # seconds; the year 9892


def log_start(slot: WorkerSlot, job: Job, function: str, *, failure_follows: bool = True) -> None:
    """A job begins. Called in the worker, also for a job that a child of it will run.
    failure_follows: as for `logs.bind_job`."""
    queue = job.origin
    logs.bind_job(job.id, queue, function, failure_follows=failure_follows)
    if not slot.logs_each_job:
        return
    fields: dict[str, Any] = _NOTHING
    if logs.wants_fields():
        fields = {"job": job.id, "queue": queue, "function": function}
        if (seconds := waited(job)) is not None:
            fields["waited"] = round(seconds, 3)
    text = f"took job={job.id} queue={queue} function={function}"
    slot.log(LogEvent.JOB_STARTED, text, fields)


def log_end(
    slot: WorkerSlot,
    job: Job,
    status: str,
    seconds: float,
    *,
    text: str = "",
    again: Again | None = None,
    killed: bool = False,
    more: bool = False,
) -> None:
    """A job has ended. status: as `Outcome` has it. text: the traceback, or the reason, of its
    failure. killed: with its process, or by resqued: a WARNING. more: as for `slot.log`."""
    if status == "finished" and not slot.logs_each_job:
        return
    function = slot.writer.record.function
    word = "put back" if status == "interrupted" else status
    line = f"{word} job={job.id} queue={job.origin} seconds={seconds:.3f} function={function}"
    fields: dict[str, Any] = _NOTHING
    if status != "finished" or logs.wants_fields():
        fields = {
            "job": job.id,
            "queue": job.origin,
            "function": function,
            "seconds": round(seconds, 6),
            "outcome": status,
        }
    if status == "finished":
        slot.log(LogEvent.JOB_FINISHED, line, fields, more=more)
        return
    event, level = _EVENTS[status]
    if killed:
        level = "WARNING"
    elif slot.alone or not text:  # RQ has logged the failure, or the job has returned Retry
        level = "INFO"
    if text:
        exception, is_traceback = summary(text)
        line = f"{line}: {exception}"
        fields["exception" if is_traceback else "reason"] = exception
        if is_traceback:
            fields["traceback"] = None if slot.alone else shorten(text).strip() or None
    if again is not None:
        line = f"{line}; {again}"
        fields |= again.fields()
    logs.at(level, line, event, **fields)
