"""What a worker adds to the stories of its jobs (`broker/story.py`), in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from resqued import linux
from resqued.broker.story import StoryEvent, last_line
from resqued.death import OUT_OF_MEMORY
from resqued.scoreboard import Reason, StopCause

if TYPE_CHECKING:
    from rq.job import Job

    from resqued.worker.slot import WorkerSlot

STOPS: Final[Mapping[StopCause, str]] = {
    StopCause.NONE: "its worker was told to leave",
    StopCause.STOP: "its arbiter was stopped",
    StopCause.REST: "its worker was told to rest",
    StopCause.RELOAD: "a reload had put another generation in service",
    StopCause.PLAN: "its worker was to serve other queues",
    StopCause.SCALE: "there were to be fewer workers",
    StopCause.RECYCLE: "its worker was replaced on request",
    StopCause.STUCK: "its worker was stuck, and was interrupted",
    StopCause.SHUTDOWN: "RQ's command shutdown",
    StopCause.ORPHANED: "the fork server of its worker was gone",
    StopCause.TRIAL: "its worker was on trial",
}
"""Why a worker gives its job back."""


class StoryEvents:
    """Makes the events of one worker's jobs. Used in the worker."""

    def __init__(self, slot: WorkerSlot) -> None:
        self._slot = slot

    def put_back(self, cause: str = "") -> StoryEvent:
        """cause: none means that the worker is told to leave."""
        return self._event("put_back", cause or self._why_it_leaves())

    def retried(self, job: Job, cause: str, memory: int = 0) -> StoryEvent:
        """The job is enqueued or scheduled again, by RQ's rules."""
        left = max(0, (job.retries_left or 1) - 1)
        return self._event("retried", cause, left=left, memory=memory)

    def put_off(self, cause: str) -> StoryEvent:
        """The job is scheduled again, beside RQ's rules."""
        return self._event("retried", cause)

    def returned_retry(self, job: Job, retry: Any) -> StoryEvent:
        """The job has returned RQ's Retry."""
        left = retry.max - (job.number_of_retries or 0)
        cause = f"it returned Retry(max={retry.max})"
        if left <= 0:
            return self._event("failed", f"{cause}, as often as it may", left=0)
        return self._event("retried", cause, left=left - 1)

    def failed(self, cause: str, memory: int = 0) -> StoryEvent:
        """For a failure that is not the job's own exception."""
        return self._event("failed", cause, memory=memory)

    def stopped(self) -> StoryEvent:
        """By a command (`rq.command`)."""
        return self._event("stopped", "a stop command")

    def _event(self, what: str, cause: str, left: int = -1, memory: int = 0) -> StoryEvent:
        record = self._slot.writer.record
        return StoryEvent(
            what,
            last_line(cause),
            host=linux.host_name(),
            worker=record.name,
            number=0 if self._slot.alone else self._slot.writer.slot,
            generation=record.generation,
            memory=memory if OUT_OF_MEMORY in cause else 0,
            left=left,
        )

    def _why_it_leaves(self) -> str:
        slot = self._slot
        if slot.alone:
            return "its worker was stopped"
        cause = slot.writer.stop_cause
        if cause is StopCause.NONE and slot.stopping is Reason.ORPHANED:
            cause = StopCause.ORPHANED
        return STOPS[cause]
