"""Decides after the end of a worker: its slot, its job, the log, and what plugins are told."""

from __future__ import annotations

from dataclasses import replace

from resqued.core import commands, death_lines, lost_jobs, slot_failures, workers
from resqued.core.actions import TellExited
from resqued.core.state import Recovery, WorkerHandle
from resqued.core.step import Step
from resqued.death import OUT_OF_MEMORY, Death
from resqued.messages import WorkerExited
from resqued.scoreboard import Order, Phase, Reason, Stop
from resqued.snapshots import Exit, WorkerState


def exited(step: Step, message: WorkerExited) -> None:
    """A worker has ended: free its slot, count a failure, have its job recovered, tell plugins."""
    state, death = step.state, message.death
    worker = state.worker(death.slot, message.serial)
    if worker is None:
        return
    worker.request, worker.pid = None, message.pid
    if death.record.serial == worker.serial:
        if death.record.done > worker.seen.done:
            slot_failures.job_ended(step)
        if death.record.phase is not Phase.EMPTY:  # else it was overwritten: `seen` is newer
            lost_jobs.notice(step, worker, death.record)
            worker.seen = death.record
        if death.record.ready > 0 and not worker.ready:
            workers.become_ready(step, worker)  # it became ready and ended between two turns
    _note_a_stop(worker)
    record = worker.seen
    ending = _ending(step, worker, death)
    workers.remove(step, worker)
    if not worker.trial:
        _free(step, worker, ending)
    recovery = None
    if record.phase not in (Phase.EMPTY, Phase.BOOTING, Phase.LEFT):
        recovery = Recovery(_to_recover(worker, death))
        state.recoveries[recovery.name] = recovery
    death_lines.log_end(step, worker, ending, record, recovery)
    in_a_row = 0 if worker.trial else state.slot(worker.slot).failures
    step.do(TellExited(worker, replace(ending, failures_in_a_row=in_a_row)))
    if worker.trial:
        workers.reject(step, worker, f"its trial worker ended before it was ready: {ending}")


def _note_a_stop(worker: WorkerHandle) -> None:
    """Note the command on the record, which the worker could not do if it was killed for not
    obeying it, or died before it knew of the job."""
    concerned = commands.concerns(worker) or commands.awaits(worker)
    if worker.order is not Order.NONE and concerned:
        worker.seen = replace(worker.seen, stopped=worker.order)


def _to_recover(worker: WorkerHandle, death: Death) -> Death:
    """The death with what the arbiter knows of it."""
    name = worker.seen.name or worker.name  # the worker may have had to take another one
    return replace(
        death,
        record=replace(worker.seen, name=name),
        queues=worker.queues,
        interrupted=worker.stop is Stop.NOW,
        reason=OUT_OF_MEMORY if _is_out_of_memory(worker, death) else worker.why,
        failure=worker.failure if worker.order is Order.FAIL else "",
        cause=worker.cause.word,
    )


def _ending(step: Step, worker: WorkerHandle, death: Death) -> Exit:
    signum = death.status & 0x7F
    record = worker.seen
    left = record.reason.deliberate and record.phase is Phase.LEFT  # the rest is its libraries'
    return Exit(
        reason=_reason(worker, signum),
        code=None if signum else death.status >> 8,
        signal=signum or None,
        booted=worker.ready,
        expected=worker.stop is not Stop.NONE or left,
        seconds=round(step.now - (record.started or worker.asked), 3),
        rusage=death.rusage,
        job_id=record.job_id if record.phase.holds_job else None,
        function=(record.function or None) if record.phase.holds_job else None,
        failures_in_a_row=0,
        out_of_memory=_is_out_of_memory(worker, death),
        cause=worker.cause.word,
    )


def _is_out_of_memory(worker: WorkerHandle, death: Death) -> bool:
    return death.out_of_memory and worker.state is not WorkerState.KILLED


def _reason(worker: WorkerHandle, signum: int) -> str:
    """As the hook `worker_exiting` has it, and two for workers in which that cannot run.

    One that was asked to leave and is ended by a signal with its job in hand has died.
    """
    if worker.state is WorkerState.KILLED:
        return "killed"
    if worker.seen.reason is not Reason.NONE:
        return worker.seen.reason.name.lower()
    if worker.stop is Stop.NONE or (signum and worker.seen.phase.holds_job):
        return "died"
    return "asked"


def _free(step: Step, worker: WorkerHandle, ending: Exit) -> None:
    slot = step.state.slot(worker.slot)
    if worker.seen.reason is Reason.BURST and ending.expected:
        slot.finished = not slot.look_again
    slot.look_again = False
    slot_failures.weigh(step, slot, worker, ending)
