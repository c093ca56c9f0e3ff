"""The line of the log about a worker's end.

A death is one WARNING, with its cause and what became of the job. So the line about one that held a
job waits for its recovery, but not longer than `PATIENCE`.
"""

from __future__ import annotations

from typing import Any, Final

from resqued.core import slot_failures
from resqued.core.state import Recovery, WorkerHandle
from resqued.core.step import Step
from resqued.death import OUT_OF_MEMORY, DeathLine
from resqued.log_events import LogEvent
from resqued.printable import printable
from resqued.scoreboard import Phase, Reason, Record
from resqued.snapshots import Exit

PATIENCE: Final = 3.0
"""Seconds that the line about a death waits for the recovery."""

_WHY: Final = {
    Reason.NONE: "on request",
    Reason.ASKED: "on request",
    Reason.RECYCLED: "recycled",
    Reason.BURST: "queues empty",
    Reason.CUT: "after its job was cut",
    Reason.ORPHANED: "its fork server is gone",
}

_BECAME: Final = {
    "requeued": "is back in its queue",
    "retried": "is retried",
    "failed": "has failed",
    "clean": "had an outcome already",
    "nothing": "had an outcome already",
}


def log_end(
    step: Step, worker: WorkerHandle, ending: Exit, record: Record, recovery: Recovery | None
) -> None:
    """A worker has ended. record: its last. recovery: of its job, if there is one."""
    wasted = not worker.trial and slot_failures.is_wasted(worker, ending)
    if ending.expected and not ending.job_id and not wasted:
        why = _WHY.get(record.reason, record.reason.name.lower())
        step.info(
            f"{worker} exited ({why}): {record.done} jobs in {ending.seconds:.0f} s",
            LogEvent.WORKER_EXITED,
            **worker.fields(),
            reason=why,
            cause=ending.cause or None,
            jobs=record.done,
            seconds=ending.seconds,
        )
        return
    wait = 0.0
    if not worker.trial and not step.state.mode.leaving:
        wait = max(0.0, step.state.slot(worker.slot).not_before - step.now)
    text, reason = _story(worker, ending, record, wasted=wasted)
    again = f"; next try in {wait:g} s" if wait else ""
    line = DeathLine(
        text=f"{worker} {text}{again}",
        by=step.now + PATIENCE,
        worker=worker.slot,
        gen=worker.generation,
        pid=worker.pid,
        job=ending.job_id,
        queue=record.queue if ending.job_id else None,
        function=ending.function,
        phase=record.phase.name.lower() if ending.job_id else None,
        reason=reason,
        exit_code=ending.code,
        signal=str(ending).removeprefix("signal ").removeprefix("SIG") if ending.signal else None,
        out_of_memory=ending.out_of_memory,
        jobs=record.done,
        seconds=ending.seconds,
        next_try=wait,
    )
    if ending.job_id and recovery is not None:
        recovery.line = line
    else:
        _log(step, line)


def _story(worker: WorkerHandle, ending: Exit, record: Record, *, wasted: bool) -> tuple[str, str]:
    """The text after the worker, and the reason in it."""
    if wasted:
        reason = "a limit, or should_recycle, leaves no time for a job"
        lived = f"recycled {ending.seconds:.1f} s after its start, before its first job"
        return f"{lived}: a limit, or should_recycle, leaves no time for one", reason
    if record.reason is Reason.UNREADABLE and record.phase is Phase.LEFT:
        return "exited: it could not read its jobs", "it could not read its jobs"
    up = "" if ending.booted else " before it was ready"
    held = ""
    if ending.job_id:
        held = f", held job={printable(ending.job_id)} in phase {record.phase.name.lower()}"
    reason = OUT_OF_MEMORY if ending.out_of_memory else worker.why
    cause = f"; {reason}" if reason else ""
    return f"ended{up}: {ending}{held}{cause}", reason or str(ending)


def became(step: Step, recovery: Recovery, verdict: str) -> None:
    """The job of a dead worker is recovered: log the death, unless that was done before."""
    if recovery.line is not None:
        became = _BECAME.get(verdict, verdict)
        _log(step, recovery.line, f"; its job {became}", verdict)
        recovery.line = None


def overdue(step: Step) -> None:
    """Log deaths whose recovery takes long."""
    for recovery in step.state.recoveries.values():
        if recovery.line is not None and recovery.line.by <= step.now:
            _log(step, recovery.line, "; its job waits for a recovery")
            recovery.line = None


def abandoned(step: Step) -> None:
    """The arbiter leaves: the next start recovers them."""
    for recovery in step.state.recoveries.values():
        if recovery.line is not None:
            _log(step, recovery.line, "; its job waits for the next start")
            recovery.line = None


def _log(step: Step, line: DeathLine, became: str = "", verdict: str | None = None) -> None:
    fields: dict[str, Any] = {**vars(line), "verdict": verdict}
    text = fields.pop("text")
    del fields["by"]
    step.warn(f"{text}{became}", LogEvent.WORKER_DIED, **fields)
