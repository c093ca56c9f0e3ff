"""The life of a worker: requested, forked, observed, adopted.

How they are stopped is in `worker_control`, and what follows from their end in `worker_exits`.
"""

from __future__ import annotations

from typing import Final

from resqued.core import lost_jobs, slot_failures
from resqued.core.actions import KillForkServer, SetStop, StartWorker, TellStarted
from resqued.core.state import GenerationHandle, OpenRequest, Slot, Stage, WorkerHandle
from resqued.core.step import Step
from resqued.core.worker_control import kill_group, signal
from resqued.log_events import LogEvent
from resqued.messages import Vetoed, WorkerForked, WorkerNotForked
from resqued.printable import is_logged, listed
from resqued.scoreboard import TRIAL, Phase, Record, Stop, StopCause
from resqued.signal_table import DRAIN, NOW
from resqued.snapshots import WorkerState

_HANDOVER: Final = 0.2  # seconds for a fork server that was killed to be gone


def fork(step: Step, slot: Slot, generation: GenerationHandle, queues: tuple[str, ...]) -> None:
    """Ask for a slot's next worker."""
    slot.worker = _ask(step, slot.number, generation, queues)
    step.do(StartWorker(slot.worker))


def fork_trial(step: Step, generation: GenerationHandle) -> None:
    """Ask for the worker that proves a new generation; it takes no job."""
    queues = generation.plan.of(1) if generation.plan.count else ("default",)
    step.state.trial = _ask(step, TRIAL, generation, queues)
    step.do(StartWorker(step.state.trial))


def _ask(
    step: Step, slot: int, generation: GenerationHandle, queues: tuple[str, ...]
) -> WorkerHandle:
    state = step.state
    state.serial += 1
    name = f"{state.policy.name or state.identity}.{slot}.{state.serial}"
    if state.policy.name and state.policy.workers == 1 and slot == 1:
        name = state.policy.name
    request = OpenRequest(generation.number, step.now)
    return WorkerHandle(
        slot, state.serial, name, generation.number, queues, asked=step.now, request=request
    )


def forked(step: Step, message: WorkerForked) -> None:
    """The worker has a pid. A stop or a kill decided meanwhile is sent now."""
    worker = step.state.worker(message.slot, message.serial)
    if worker is None or worker.request is None:
        return
    generation = step.state.generations.get(worker.generation)
    timeout = (generation.policy if generation else step.state.policy).boot_timeout
    worker.request, worker.pid = None, message.pid
    worker.deadline = step.now + timeout
    if worker.state is WorkerState.FORKING:
        worker.state = WorkerState.BOOTING
    step.debug(
        f"{worker} forked, queues={listed(worker.queues)}",
        LogEvent.WORKER_FORKED,
        **worker.fields(),
        queues=list(worker.queues),
    )
    _tell_started(step, worker)
    if not worker.trial:
        step.state.slot(worker.slot).vetoes = 0
    if worker.state is WorkerState.KILLED:
        kill_group(step, worker)
    elif worker.stop is not Stop.NONE:
        signal(step, worker, NOW if worker.stop is Stop.NOW else DRAIN)


def _tell_started(step: Step, worker: WorkerHandle) -> None:
    if not worker.trial:
        step.do(TellStarted(worker))


def not_forked(step: Step, message: WorkerNotForked | Vetoed) -> None:
    """Vetoed: the slot, or the trial, waits as asked. Failed: the slot backs off."""
    state, reason = step.state, message.reason
    worker = state.worker(message.slot, message.serial)
    if worker is None or worker.request is None:
        return
    if worker.trial:
        state.trial = None
        if isinstance(message, Vetoed):
            _put_off_trial(step, worker, message)
        else:
            reject(step, worker, f"no trial worker: {reason}")
        return
    slot = state.slot(message.slot)
    slot.worker = None
    if isinstance(message, Vetoed):
        slot.not_before = step.now + message.retry_after
        slot.vetoes += 1
        _log_veto(step, f"worker={slot.number}", message, slot.vetoes)
    elif message.leaving:
        slot.not_before = step.now + _HANDOVER
        _replace(step, worker)
    else:
        delay = slot_failures.failed(step, slot)
        step.error(
            f"worker={slot.number} cannot be forked: {reason}; again in {delay:g} s",
            LogEvent.WORKER_NOT_FORKED,
            worker=slot.number,
            reason=reason,
            next_try=delay,
        )


def _put_off_trial(step: Step, worker: WorkerHandle, message: Vetoed) -> None:
    """The trial is tried again until the boot timeout of its generation."""
    generation = step.state.generations.get(worker.generation)
    if generation is not None:
        generation.not_before = step.now + message.retry_after
        generation.vetoes += 1
        generation.vetoed = message.reason
        _log_veto(step, f"gen={generation.number} trial worker", message, generation.vetoes)


def _log_veto(step: Step, what: str, message: Vetoed, count: int) -> None:
    """The first, the 10th, the 100th .. in a row."""
    if not is_logged(count):
        return
    again = f"again in {message.retry_after:g} s"
    times = f", {count} times in a row" if count > 1 else ""
    step.info(
        f"{what} not forked, vetoed: {message.reason}{times}; {again}",
        LogEvent.WORKER_NOT_FORKED,
        reason=message.reason,
        next_try=message.retry_after,
    )


def _replace(step: Step, worker: WorkerHandle) -> None:
    """Kill its fork server, which drains, but not on the arbiter's request: the arbiter adopts the
    workers and starts another one at once, not after the last job."""
    generation = step.state.generations.get(worker.generation)
    if generation is not None and generation.stage is Stage.READY and not generation.left:
        generation.left = True
        step.do(KillForkServer(generation.number))


def observe(step: Step, worker: WorkerHandle, record: Record) -> None:
    """Update a worker from its record."""
    if record.serial != worker.serial or worker.state is WorkerState.FORKING:
        return  # of the slot's last worker, or out of order
    if record.deadline != worker.seen.deadline:
        worker.attempt = 0
    if record.done > worker.seen.done:
        slot_failures.job_ended(step)
    lost_jobs.notice(step, worker, record)
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
        become_ready(step, worker)


def notice_stopped(step: Step, worker: WorkerHandle, *, frozen: bool) -> None:
    """Set a deadline for a worker whose process is stopped (SIGSTOP)."""
    if not frozen:
        worker.stopped_by = None
    elif worker.stopped_by is None:
        worker.stopped_by = step.now + step.state.policy.loop_timeout


def become_ready(step: Step, worker: WorkerHandle) -> None:
    """It has proved that it, and its generation, come up."""
    worker.ready = True
    worker.deadline = None
    step.state.ever_ready = True
    generation = step.state.generations.get(worker.generation)
    if generation is not None:
        generation.proven = True
    what = "trial worker ready" if worker.trial else "ready"
    step.info(
        f"{worker} {what}, queues={listed(worker.queues)}",
        LogEvent.WORKER_READY,
        **worker.fields(),
        queues=list(worker.queues),
        seconds=round(step.now - worker.asked, 3),
    )


def lost(step: Step, worker: WorkerHandle, pid: int | None) -> None:
    """The fork server that was asked for it has ended. pid: if it was forked before."""
    worker.request, worker.pid = None, pid
    if pid is None:
        remove(step, worker)
    else:
        _tell_started(step, worker)


def adopt(step: Step, generation: int) -> None:
    """The fork server is gone: its workers are the arbiter's children, and were told to drain."""
    for worker in step.state.workers():
        if worker.generation != generation or worker.adopted or worker.pid is None:
            continue
        worker.adopted = True
        if worker.state is WorkerState.KILLED:
            kill_group(step, worker)
            continue
        worker.state = WorkerState.STOPPING
        if worker.stop is Stop.NOW:
            signal(step, worker, NOW)
        else:
            worker.stop = Stop.DRAIN
            worker.cause = worker.cause or StopCause.ORPHANED
            step.do(SetStop(worker.slot, Stop.DRAIN, worker.cause))
            signal(step, worker, DRAIN)


def remove(step: Step, worker: WorkerHandle) -> None:
    """Free its slot, or the trial's."""
    if worker.trial:
        step.state.trial = None
    else:
        step.state.slot(worker.slot).worker = None


def reject(step: Step, worker: WorkerHandle, why: str) -> None:
    """The trial worker failed, and so has its generation, unless it is in service already."""
    generation = step.state.generations.get(worker.generation)
    if generation is not None and not generation.proven:
        generation.rejected = why
