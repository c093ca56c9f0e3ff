"""Connect the fast path to its worker, and decide whether it can be used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rq.queue import Queue

from resqued import logs
from resqued.broker.executions import LONGEST_TTL, NO_TIMEOUT
from resqued.broker.fast_path import FastPath
from resqued.broker.hand import Bounds
from resqued.broker.prerequisites import is_supported, why_no_script
from resqued.logs import LogEvent
from resqued.scoreboard import Reason

if TYPE_CHECKING:
    from resqued.worker.context import Context


def make_fast_path(context: Context, host: WorkerStepHost) -> FastPath | None:
    """The fast path; None where RQ's way is used, which is logged if it is not by choice."""
    slot, worker = context.slot, context.worker
    if slot.alone or slot.config.fast_path != "auto" or not is_supported(worker):
        return None
    if why := why_no_script(worker.connection, slot.missing_rights):
        if slot.first(why):
            logs.warning(why, LogEvent.WORKER_NOTICE)
        return None
    grace = int(slot.config.kill_after) + 60
    bounds = Bounds(grace, NO_TIMEOUT, LONGEST_TTL, worker.worker_ttl + 60)
    return FastPath(worker, str(slot.owner), bounds, context.retry, host, context.limits)


class WorkerStepHost:
    """The worker's side of `fast_path.StepHost`. is_isolated: whether the job in hand runs in a
    child, where `after_job` is called too."""

    def __init__(
        self,
        context: Context,
        note_heartbeat: Callable[[], None],
        drop_stray: Callable[[str, str], None],
        is_isolated: Callable[[], bool],
    ) -> None:
        self._context = context
        self._slot = context.slot
        self.note_heartbeat = note_heartbeat
        self.drop_stray = drop_stray
        self._is_isolated = is_isolated
        config = context.slot.config
        limits = config.options  # those of the built-in plugin `recycle`, if it is loaded
        self._measures = bool(limits.get("max_memory") or limits.get("max_threads"))
        self._ends = bool(limits.get("max_jobs") or limits.get("max_age"))
        """The worker may have to be recycled after any job: the built-in plugin has no other
        reasons."""
        hooks = context.slot.hooks
        self._calls_after_job = hooks.has("after_job")
        self._runs_plugins = hooks.has_foreign("should_recycle") or context.order is not None
        """Code of plugins runs before each look: it must not keep an outcome from being
        written."""

    def next_queues(self) -> list[Queue]:
        """Empty if something has to run between two jobs: an exit, maintenance, user code."""
        slot = self._slot
        unusual = (
            slot.reason is not Reason.NONE
            or slot.stopping is not Reason.NONE
            or slot.signals.alert
            or slot.signals.cut is not None
            or slot.damaged
            or slot.writer.board.maintenance_is_due
            or self._runs_plugins
            or (self._calls_after_job and not self._is_isolated())
            or self._measures  # memory and threads are known only when the job is freed
            or self._context.queues.are_outdated
        )
        if unusual:
            return []
        if self._ends and slot.hooks.ask("should_recycle", worker=slot.snapshot(after=1)):
            return []
        queues: list[Queue] = self._context.worker._ordered_queues
        return self._context.open_queues.of(queues)

    def record_token(self, token: str) -> None:
        """Put a step's token on the record before the step is sent."""
        writer = self._slot.writer
        if writer.record.token != token:
            writer.update(token=token)
