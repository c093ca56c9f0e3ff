"""A worker class that stops at a named point until the test lets it go on, or kills it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rq import Worker

from resqued.worker.rq_worker import ResquedWorker

POINTS = {
    "begun": "IDLE",  # a step has started it, and the worker does not know it yet
    "taken": "TAKEN",  # the id has left its queue; nothing else has happened
    "sent": "TAKEN",  # the execution exists, but the record does not say so yet
    "prepared": "TAKEN",  # PREPARED where it was taken in RQ's way
    "running": "RUNNING",
    "returned": "RETURNED",
    "executed": "RETURNED",  # the outcome is in Redis, but the record does not say so yet
    "ahead": "RETURNED",  # the same, and the step has also started the next job
    "written": "WRITTEN",
}
"""Where it can stop, in order, and what phase its record shows there."""


def pause(point: str) -> None:
    """Stop if it is the one. RESQUED_PAUSE is `point gate`."""
    wanted, _, gate = os.environ.get("RESQUED_PAUSE", "").partition(" ")
    if point != wanted:
        return
    Path(f"{gate}.reached").write_text(str(os.getpid()))
    while not Path(gate).exists():
        time.sleep(0.01)


class PausedForker(Worker):
    """RQ's, which forks a horse for its job."""

    def fork_work_horse(self, *args: Any) -> None:
        pause("unforked")
        super().fork_work_horse(*args)


class PausedWorker(ResquedWorker):
    """A ResquedWorker; its parts stop too."""

    def _pause(self, point: str) -> None:
        pause(point)

    def bootstrap(self, *args: Any, **options: Any) -> None:
        parts, slot = self._resqued, self._resqued.slot
        in_hand, runner = parts.in_hand, parts.runner
        before(in_hand, "accept", lambda: self._pause("begun"))
        before(in_hand, "mark_prepared", lambda: self._pause("sent"))
        before(runner, "run", lambda: self._pause("running"))
        after(slot, "take", lambda: self._pause("taken"))
        before(runner.writer, "write_success", lambda: self._pause("returned"))

        def executed() -> None:
            self._pause("executed")
            if parts.context.has_next:
                self._pause("ahead")

        after(runner.writer, "write_success", executed)
        record = runner.outcomes.record

        def record_and_pause(*args: Any, **options: Any) -> None:
            idle = slot.become_idle
            before(slot, "become_idle", lambda: self._pause("written"))
            try:
                record(*args, **options)
            finally:
                slot.become_idle = idle

        runner.outcomes.record = record_and_pause
        super().bootstrap(*args, **options)

    def prepare_job_execution(self, *args: Any) -> None:
        self._pause("prepared")
        super().prepare_job_execution(*args)


def before(part: Any, name: str, stop: Callable[[], None]) -> None:
    """Stop before each call of this method of one of the worker's parts."""
    method = getattr(part, name)

    def stop_and_call(*args: Any, **options: Any) -> Any:
        stop()
        return method(*args, **options)

    setattr(part, name, stop_and_call)


def after(part: Any, name: str, stop: Callable[[], None]) -> None:
    """The same, after it."""
    method = getattr(part, name)

    def call_and_stop(*args: Any, **options: Any) -> Any:
        answer = method(*args, **options)
        stop()
        return answer

    setattr(part, name, call_and_stop)
