"""The snapshot of a worker for hooks, from its record; the same in every process."""

from __future__ import annotations

from typing import Any

from resqued.config import Config
from resqued.scoreboard import TRIAL, Record
from resqued.snapshots import Worker, WorkerState


def snapshot_of(
    record: Record,
    *,
    slot: int,
    name: str,
    pid: int | None,
    generation: int,
    queues: tuple[str, ...],
    state: WorkerState,
    config: Config,
    holds_job: bool,
    **more: Any,
) -> Worker:
    """Runs in the arbiter, in fork servers and in workers.

    holds_job: the job on the record is in hand. more: fields that the record does not have.
    """
    facts = {
        "number": slot,
        "name": name,
        "pid": pid,
        "generation": generation,
        "queues": queues,
        "state": state,
        "started_at": record.started or None,
        "job_id": (record.job_id or None) if holds_job else None,
        "config": config,
        "jobs": record.done,
        "trial": slot == TRIAL,
        "memory": record.memory or None,
        "failed": record.failed,
    }
    if facts["job_id"] is not None:
        facts["function"] = record.function or None
        facts["queue"] = record.queue or None
        facts["job_started"] = record.job_started or None
        facts["timeout"] = record.job_timeout if record.job_timeout > 0 else None
    return Worker(**{**facts, **more})
