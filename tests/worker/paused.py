"""A worker class that stops at a named point until the test lets it go on, or kills it."""

from __future__ import annotations

import os
import time
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
    """Ours."""

    def _pause(self, point: str) -> None:
        pause(point)

    def _resqued_received(self, step: Any) -> Any:
        self._pause("begun")
        return super()._resqued_received(step)

    def _resqued_look(self) -> Any:
        slot = self._resqued_slot
        take = slot.take

        def take_and_pause(*args: Any) -> None:
            take(*args)
            self._pause("taken")

        slot.take = take_and_pause
        try:
            return super()._resqued_look()
        finally:
            slot.take = take

    def _resqued_prepared(self, execution: Any) -> None:
        self._pause("sent")
        super()._resqued_prepared(execution)

    def prepare_job_execution(self, *args: Any) -> None:
        self._pause("prepared")
        super().prepare_job_execution(*args)

    def _resqued_run(self, job: Any) -> Any:
        self._pause("running")
        return super()._resqued_run(job)

    def _resqued_write_success(self, *args: Any) -> bool:
        self._pause("returned")
        ours = super()._resqued_write_success(*args)
        self._pause("executed")
        if self._resqued_fast is not None and self._resqued_fast.has_next:
            self._pause("ahead")
        return ours

    def _resqued_done(self, *args: Any, **options: Any) -> None:
        rest = self._resqued_slot.rest

        def pause_and_rest(**changes: Any) -> None:
            self._pause("written")
            rest(**changes)

        self._resqued_slot.rest = pause_and_rest
        super()._resqued_done(*args, **options)
