"""One script a job (`broker/fast_path.py`): whether it can be, and what it asks of its worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rq.queue import Queue

from resqued.broker.executions import LONGEST_TTL, NO_TIMEOUT
from resqued.broker.fast_path import FastPath
from resqued.broker.hand import Bounds
from resqued.broker.prerequisites import suits, why_no_script
from resqued.logs import logger
from resqued.scoreboard import Reason

if TYPE_CHECKING:
    from resqued.worker.core import Core


def make_fast_path(core: Core) -> FastPath | None:
    """None where jobs have to be taken and ended in RQ's way; told if that is not by choice."""
    slot, worker = core.slot, core.worker
    if slot.alone or slot.config.fast_path != "auto" or not suits(worker):
        return None
    if why := why_no_script(worker.connection, slot.lacks):
        if slot.first(why):
            logger.warning(why)
        return None
    grace = int(slot.config.kill_after) + 60
    bounds = Bounds(grace, NO_TIMEOUT, LONGEST_TTL, worker.worker_ttl + 60)
    return FastPath(worker, str(slot.owner), bounds, core.retry, StepHost(core))


class StepHost:
    """One worker, as `fast_path.StepHost` has it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._slot = core.slot
        config = core.slot.config
        self._ends = bool(config.max_jobs or config.max_age)
        """It may have to be recycled after any job: the built-in plugin knows no other reasons."""

    def may_go_on(self) -> list[Queue]:
        """None if something comes between two jobs: a reason to leave, maintenance, code of the
        user's."""
        slot = self._slot
        config = slot.config
        unusual = (
            slot.reason is not Reason.NONE
            or slot.stopping is not Reason.NONE
            or slot.signals.alert
            or slot.signals.cut is not None
            or slot.damaged
            or slot.writer.board.maintenance_is_due
            or (slot.hooks.has("after_job") and self._core.runner.isolation.busy is None)
            or slot.hooks.has_foreign("should_recycle")
            or bool(config.max_memory or config.max_threads)  # known when the job is freed
            or self._core.queues.are_outdated
        )
        if unusual:
            return []
        if self._ends and slot.hooks.ask("should_recycle", worker=slot.snapshot(after=1)):
            return []
        queues: list[Queue] = self._core.worker._ordered_queues
        return queues

    def note(self, token: str) -> None:
        """The token of a step stands on the record before the step is sent."""
        writer = self._slot.writer
        if writer.record.token != token:
            writer.update(token=token)

    def beaten(self) -> None:
        """A step has written a heartbeat."""
        self._core.registration.beaten()

    def drop_stray(self, job_id: str, execution_id: str) -> None:
        """Back to its queue, as if it had been interrupted. Raises redis errors."""
        self._core.runner.drop_stray(job_id, execution_id)
