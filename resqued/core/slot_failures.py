"""Counts the failures of slots, and sets the back-off of a worker's successor.

A slot backs off for its own failures only: workers that do not come up, die before their first job,
or are recycled before it. A worker that dies during a job has a successor at once. So has one that
dies idle after a job: threads that a job has left may be the cause, and each such death has cost a
job.
"""

from __future__ import annotations

from typing import Final

from resqued.backoff import backoff
from resqued.core.state import Slot, WorkerHandle
from resqued.core.step import Step
from resqued.core.worker_control import SIGKILL
from resqued.log_events import LogEvent
from resqued.scoreboard import Reason
from resqued.snapshots import Exit, WorkerState

STEADY: Final = 60.0
"""Seconds of life after which a slot's failures are forgotten."""

YOUNG: Final = 1.0
"""Seconds after it became ready before which a worker that is recycled without a job has failed its
slot."""

IN_A_ROW: Final = 20
"""Workers that die with a job in a row, without a job that ends, until their successors wait: the
cause is probably the machine, and every queued job would be lost to it."""

BRAKE: Final = 2.0
"""Seconds that each successor then waits."""


def failed(step: Step, slot: Slot) -> float:
    """Count a failure of the slot itself. Returns the seconds until its next try."""
    slot.failures += 1
    delay = backoff(slot.failures)
    slot.not_before = step.now + delay
    return delay


def weigh(step: Step, slot: Slot, worker: WorkerHandle, ending: Exit) -> None:
    """Count a worker's end as a failure of the slot, of a job, or of neither."""
    if is_wasted(worker, ending):
        failed(step, slot)
    elif ending.expected:
        if ending.booted:
            slot.failures = 0  # with a life between them, deaths are not in a row
    elif worker.seen.phase.holds_job:
        slot.failures = 0
        if worker.state is not WorkerState.KILLED:  # not by a stop order, or after its timeout
            _brake(step, slot)
    elif worker.seen.done and worker.seen.reason is Reason.NONE:
        slot.failures = 0
    else:
        if ending.booted and ending.seconds >= STEADY:
            slot.failures = 0
        if ending.signal == SIGKILL and worker.state is not WorkerState.KILLED:
            slot.killed += 1
        failed(step, slot)


def is_wasted(worker: WorkerHandle, ending: Exit) -> bool:
    """Recycled before its first job, as with a limit that no worker can keep."""
    record = worker.seen
    recycled = ending.expected and record.reason is Reason.RECYCLED
    served = ending.seconds
    if 0 < record.ready <= record.heartbeat:  # neither its boot counts nor its exit
        served = record.heartbeat - record.ready
    return recycled and record.done == 0 and served < YOUNG


def job_ended(step: Step) -> None:
    """Somewhere a job has ended, whatever its outcome: workers can run jobs."""
    if step.state.deaths >= IN_A_ROW:
        step.info(
            "a job has ended: workers that die of one are replaced at once again",
            LogEvent.ARBITER_NOTICE,
        )
    step.state.deaths = 0


def _brake(step: Step, slot: Slot) -> None:
    state = step.state
    state.deaths += 1
    if state.deaths < IN_A_ROW:
        return
    slot.not_before = step.now + BRAKE
    if state.deaths == IN_A_ROW:
        step.error(
            f"{IN_A_ROW} workers in a row have died with a job in hand, and no job has ended"
            f" between: from now on each successor waits {BRAKE:g} s, until a job ends."
            " See what the machine lacks (memory of the cgroup, instructions of the CPU)",
            LogEvent.ARBITER_NOTICE,
        )
