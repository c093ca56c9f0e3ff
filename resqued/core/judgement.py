"""Asks `worker_stuck` about workers past their deadline, and carries out its verdicts."""

from __future__ import annotations

from typing import Final

from resqued.core import commands
from resqued.core.actions import AskStuck
from resqued.core.events import Judged
from resqued.core.state import WorkerHandle
from resqued.core.step import Step
from resqued.core.worker_control import PATIENCE, interrupt, kill, signal
from resqued.log_events import LogEvent
from resqued.printable import printable
from resqued.scoreboard import Stop, StopCause
from resqued.signal_table import DUMP
from resqued.snapshots import WorkerState
from resqued.verdicts import Dump, Fail, Kill, Terminate, Wait

_NO_OPINION: Final = 30.0
"""Seconds until plugins without a verdict are asked again."""

_AFTER_DUMP: Final = 1.0
"""Seconds until the stacks are in the log."""

_AFTER_FAIL: Final = commands.PATIENCE_OF_FAIL + 2.0
"""Seconds from the verdict Fail until the next question: by then the worker has been killed."""


def check(step: Step, worker: WorkerHandle) -> None:
    """Ask about a worker that is past its deadline."""
    overdue = worker.overdue_at
    if overdue is None or overdue > step.now:
        return
    if worker.ask_after > step.now or step.state.judge_after > step.now:
        return
    attempt, worker.attempt = worker.attempt, worker.attempt + 1
    worker.ask_after = step.now + _NO_OPINION
    step.do(AskStuck(worker, step.now - overdue, attempt))


def judged(step: Step, event: Judged) -> None:
    """Carry out what `worker_stuck` answered."""
    worker = step.state.worker(event.slot, event.serial)
    if worker is None or worker.state is WorkerState.KILLED:
        return
    overdue = max(0.0, step.now - (worker.overdue_at or step.now))
    what = f"{worker} stuck in {_doing(worker)}, {overdue:.0f} s past its deadline"
    stuck = f"stuck in {_doing(worker)} for {overdue:.0f} s past its deadline"
    verdict = event.verdict
    if isinstance(verdict, Wait):
        worker.ask_after = step.now + max(0.0, verdict.seconds)
    elif isinstance(verdict, Fail):
        reason = printable(verdict.reason, lines=True)
        worker.ask_after = step.now + _AFTER_FAIL
        if commands.fail(step, worker, reason):
            step.warn(
                f"{what}: its job fails: {printable(verdict.reason)}",
                LogEvent.WORKER_STUCK,
                **worker.fields(job=True),
                reason=verdict.reason,
            )
        else:
            kill(step, worker, f"{stuck}, without a job to fail: {printable(verdict.reason)}")
    elif verdict == Dump:
        step.warn(f"{what}: its stacks follow", LogEvent.WORKER_STUCK, **worker.fields(job=True))
        worker.ask_after = step.now + _AFTER_DUMP
        signal(step, worker, DUMP)
    elif verdict == Terminate:
        step.warn(f"{what}: interrupted", LogEvent.WORKER_STUCK, **worker.fields(job=True))
        worker.ask_after = step.now + PATIENCE
        interrupt(step, worker, StopCause.STUCK)
    elif verdict == Kill:
        kill(step, worker, stuck)
    elif worker.stop is Stop.NOW and worker.kill_at is None:
        kill(step, worker, f"{stuck}: interrupted in vain, and no plugin judges it")
    elif worker.attempt == 1:
        step.warn(f"{what}; no plugin judges it", LogEvent.WORKER_STUCK, **worker.fields(job=True))


def _doing(worker: WorkerHandle) -> str:
    record = worker.seen
    if record.phase.holds_job and record.job_id:
        return printable(f"job={record.job_id} {record.function}".rstrip())
    return f"phase {record.phase.name.lower()}"
