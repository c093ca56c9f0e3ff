"""Workers one by one: forked, seen, adopted, gone. What they are told is in `orders`."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from resqued.core import commands, slot_failures
from resqued.core.actions import (
    ForkWorker,
    KillForkServer,
    SetStop,
    SignalWorker,
    TellExited,
)
from resqued.core.events import WorkerForked, WorkerGone, WorkerNotForked
from resqued.core.state import Generation, Recovery, Slot, Stage, WorkerHandle
from resqued.core.step import Step
from resqued.core.worker_control import SIGKILL, SIGQUIT
from resqued.printable import listed, printable
from resqued.scoreboard import TRIAL, Order, Phase, Reason, Record, Stop
from resqued.signals import NOW
from resqued.snapshots import Exit, WorkerState

_HANDOVER: Final = 0.2  # seconds for a fork server that was killed to be gone


def fork(step: Step, slot: Slot, generation: Generation, queues: tuple[str, ...]) -> None:
    """Ask for a slot's next worker."""
    slot.worker = _wished(step, slot.number, generation, queues)
    step.do(ForkWorker(slot.worker))


def fork_trial(step: Step, generation: Generation) -> None:
    """Ask for the worker that proves a new generation; it takes no job."""
    queues = generation.plan.of(1) if generation.plan.count else ("default",)
    step.state.trial = _wished(step, TRIAL, generation, queues)
    step.do(ForkWorker(step.state.trial))


def _wished(step: Step, slot: int, generation: Generation, queues: tuple[str, ...]) -> WorkerHandle:
    state = step.state
    state.serial += 1
    name = f"{state.policy.name or state.identity}.{slot}.{state.serial}"
    if state.policy.name and state.policy.workers == 1 and slot == 1:
        name = state.policy.name
    return WorkerHandle(slot, state.serial, name, generation.number, queues, asked=step.now)


def forked(step: Step, event: WorkerForked) -> None:
    """It has a pid. What it was told meanwhile, it is told now."""
    worker = step.state.worker(event.slot, event.serial)
    if worker is None or worker.pid is not None:
        return
    generation = step.state.generations.get(worker.generation)
    timeout = (generation.policy if generation else step.state.policy).boot_timeout
    worker.pid = event.pid
    worker.deadline = step.now + timeout
    if worker.state is WorkerState.FORKING:
        worker.state = WorkerState.BOOTING
    step.debug(f"{worker} forked, queues={listed(worker.queues)}")
    if worker.state is WorkerState.KILLED:
        step.do(SignalWorker(worker, SIGKILL, group=True))
    elif worker.stop is not Stop.NONE:
        step.do(SignalWorker(worker, NOW if worker.stop is Stop.NOW else SIGQUIT))


def not_forked(step: Step, event: WorkerNotForked) -> None:
    """Vetoed: the slot waits as asked. Failed: the slot backs off."""
    state = step.state
    worker = state.worker(event.slot, event.serial)
    if worker is None:
        return
    if worker.trial:
        state.trial = None
        _reject(step, worker, f"no trial worker: {event.reason}")
        return
    slot = state.slot(event.slot)
    slot.worker = None
    if event.leaving:
        slot.not_before = step.now + _HANDOVER
        _replace(step, worker)
        return
    if event.retry_after is not None:
        slot.not_before = step.now + event.retry_after
        step.info(
            f"worker={slot.number} not forked, vetoed: {event.reason};"
            f" again in {event.retry_after:g} s"
        )
        return
    delay = slot_failures.failed(step, slot)
    step.error(f"worker={slot.number} cannot be forked: {event.reason}; again in {delay:g} s")


def _replace(step: Step, worker: WorkerHandle) -> None:
    """Its fork server was told to leave by somebody else. It stays for as long as one of its
    workers has a job: end it, so that the workers become ours and another can take its place."""
    generation = step.state.generations.get(worker.generation)
    if generation is not None and generation.stage is Stage.READY and not generation.left:
        generation.left = True
        step.do(KillForkServer(generation.number))


def observe(step: Step, worker: WorkerHandle, record: Record) -> None:
    """Take in what a worker's record says now."""
    if record.serial != worker.serial or worker.state is WorkerState.FORKING:
        return  # of the slot's last worker, or news that arrives out of order
    if record.deadline != worker.seen.deadline:
        worker.attempt = 0
    if record.done > worker.seen.done:
        slot_failures.job_ended(step)
    worker.seen = record
    if worker.state in (WorkerState.STOPPING, WorkerState.KILLED):
        return
    phase = record.phase
    if phase is Phase.CONNECTING:
        worker.state = WorkerState.CONNECTING
    elif phase is Phase.IDLE:
        worker.state = WorkerState.IDLE
    elif phase.holds_job:
        worker.state = WorkerState.BUSY
    if (phase is Phase.IDLE or phase.holds_job) and not worker.ready:
        _ready(step, worker)


def notice_stopped(step: Step, worker: WorkerHandle, *, frozen: bool) -> None:
    """A process that is stopped (SIGSTOP) does nothing, whatever its record promises."""
    if not frozen:
        worker.stopped_by = None
    elif worker.stopped_by is None:
        worker.stopped_by = step.now + step.state.policy.loop_timeout


def _ready(step: Step, worker: WorkerHandle) -> None:
    worker.ready = True
    worker.deadline = None
    step.state.ever_ready = True
    generation = step.state.generations.get(worker.generation)
    if generation is not None:
        generation.proven = True
    what = "trial worker ready" if worker.trial else "ready"
    step.info(f"{worker} {what}, queues={listed(worker.queues)}")


def adopt(step: Step, generation: int, found: dict[int, int]) -> None:
    """The fork server is gone: its workers are our children now, and were told to leave."""
    state = step.state
    for worker in state.workers():
        if worker.generation != generation or worker.adopted:
            continue
        if worker.pid is None:
            pid = found.get(worker.slot)
            if pid is None:
                _never_was(step, worker)
                continue
            worker.pid = pid
        worker.adopted = True
        if worker.state is WorkerState.KILLED:
            step.do(SignalWorker(worker, SIGKILL, group=True))
            continue
        worker.state = WorkerState.STOPPING
        if worker.stop is Stop.NOW:
            step.do(SignalWorker(worker, NOW))
        else:
            worker.stop = Stop.DRAIN
            step.do(SetStop(worker.slot, Stop.DRAIN))
            step.do(SignalWorker(worker, SIGQUIT))


def _never_was(step: Step, worker: WorkerHandle) -> None:
    if worker.trial:
        step.state.trial = None
    else:
        step.state.slot(worker.slot).worker = None


def gone(step: Step, event: WorkerGone) -> None:
    """A worker has ended: free its slot, count a failure, have its job recovered, tell plugins."""
    state = step.state
    worker = state.worker(event.slot, event.serial)
    if worker is None:
        return
    worker.pid = event.pid
    if event.record.serial == worker.serial:
        if event.record.done > worker.seen.done:
            slot_failures.job_ended(step)
        if event.record.phase is not Phase.EMPTY:  # else it was written over: ours is newer
            worker.seen = event.record
        if event.record.ready > 0 and not worker.ready:
            _ready(step, worker)  # and gone again before anybody saw it
    _note_a_stop(worker)
    record = worker.seen
    ending = _ending(step, worker, event)
    if worker.trial:
        state.trial = None
    else:
        _free(step, worker, ending)
    if record.phase not in (Phase.EMPTY, Phase.BOOTING, Phase.LEFT):
        recovery = _recovery(worker, event)
        state.recoveries[recovery.name] = recovery
    _log_end(step, worker, ending, record)
    in_a_row = 0 if worker.trial else state.slot(worker.slot).failures
    step.do(TellExited(worker, replace(ending, failures_in_a_row=in_a_row)))
    if worker.trial:
        _reject(step, worker, f"its trial worker ended before it was ready: {ending}")


def _note_a_stop(worker: WorkerHandle) -> None:
    """Who was killed for not obeying a command could not say so on its record, nor could who died
    before it knew of the job."""
    told = commands.concerns(worker) or commands.awaits(worker)
    if worker.order is not Order.NONE and told:
        worker.seen = replace(worker.seen, stopped=worker.order)


def _recovery(worker: WorkerHandle, event: WorkerGone) -> Recovery:
    """What it left in Redis. Noted until `recovered`, over a re-exec too."""
    return Recovery(
        slot=worker.slot,
        name=worker.seen.name or worker.name,  # it may have had to take another one
        status=event.status,
        rusage=event.rusage,
        record=worker.seen,
        queues=worker.queues,
        interrupted=worker.stop is Stop.NOW,
        reason=worker.why,
    )


def _ending(step: Step, worker: WorkerHandle, event: WorkerGone) -> Exit:
    signum = event.status & 0x7F
    record = worker.seen
    told = worker.stop is not Stop.NONE
    left = record.reason.deliberate and record.phase is Phase.LEFT  # the rest is its libraries'
    return Exit(
        code=None if signum else event.status >> 8,
        signal=signum or None,
        booted=worker.ready,
        expected=told or left,
        seconds=round(step.now - (record.started or worker.asked), 3),
        rusage=event.rusage,
        job_id=record.job_id if record.phase.holds_job else None,
        failures_in_a_row=0,
    )


def _free(step: Step, worker: WorkerHandle, ending: Exit) -> None:
    slot = step.state.slot(worker.slot)
    slot.worker = None
    if worker.seen.reason is Reason.BURST and ending.expected:
        slot.finished = not slot.look_again
    slot.look_again = False
    slot_failures.weigh(step, slot, worker, ending)


def _log_end(step: Step, worker: WorkerHandle, ending: Exit, record: Record) -> None:
    held = ""
    if ending.job_id:
        held = f", held job={printable(ending.job_id)} in phase {record.phase.name.lower()}"
    wasted = not worker.trial and slot_failures.is_wasted(worker, ending)
    if ending.expected and not ending.job_id and not wasted:
        reason = record.reason.name.lower() if record.reason else "told"
        step.info(f"{worker} left: {reason}, {record.done} jobs in {ending.seconds:.0f} s")
        return
    wait = 0.0
    if not worker.trial:
        wait = max(0.0, step.state.slot(worker.slot).not_before - step.now)
    again = f"; next try in {wait:g} s" if wait and not step.state.mode.leaving else ""
    if wasted:
        lived = f"recycled {ending.seconds:.1f} s after its start, before its first job"
        step.warn(f"{worker} {lived}: a limit, or should_recycle, leaves no time for one{again}")
        return
    if record.reason is Reason.UNREADABLE and record.phase is Phase.LEFT:
        step.warn(f"{worker} left: it could not read its jobs{again}")
        return
    up = "" if ending.booted else " before it was ready"
    step.warn(f"{worker} ended{up}: {ending}{held}{again}")


def _reject(step: Step, worker: WorkerHandle, why: str) -> None:
    """The trial worker failed, so its generation has, if it still wants to come into service."""
    generation = step.state.generations.get(worker.generation)
    if generation is not None and not generation.proven:
        generation.rejected = why
