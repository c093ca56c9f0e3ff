"""Jobs whose process died while their worker lives: plugins are told from the worker's record."""

from __future__ import annotations

from resqued.core.actions import TellLost
from resqued.core.state import WorkerHandle
from resqued.core.step import Step
from resqued.scoreboard import Record


def notice(step: Step, worker: WorkerHandle, record: Record) -> None:
    """Tell plugins of the last job that was lost since the record that the arbiter has seen.

    record: newer than `worker.seen`. Of several jobs that are lost between two turns the record has
    only the last; each is in the worker's log.
    """
    count = record.lost - worker.seen.lost
    if count <= 0 or not record.lost_job:
        return
    if count > 1:
        step.debug(f"{worker} lost {count} jobs at once; job_lost is called for the last")
    step.do(TellLost(worker, record.lost_job, record.lost_verdict))
