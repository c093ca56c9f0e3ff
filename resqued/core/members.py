"""Workers one by one: forked, seen, adopted, gone. What they are told is in `orders`."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from resqued.core import commands, failures
from resqued.core.actions import (
    ForkWorker,
    KillForkServer,
    SetStop,
    SignalWorker,
    TellExited,
)
from resqued.core.events import WorkerForked, WorkerGone, WorkerNotForked
from resqued.core.orders import SIGKILL, SIGQUIT
from resqued.core.state import Generation, Member, Recovery, Slot, Stage
from resqued.core.step import Step
from resqued.printable import listed, printable
from resqued.records import Exit, WorkerState
from resqued.scoreboard import TRIAL, Order, Phase, Reason, Record, Stop
from resqued.signals import NOW

_HANDOVER: Final = 0.2  # seconds for a fork server that was killed to be gone


def fork(step: Step, slot: Slot, generation: Generation, queues: tuple[str, ...]) -> None:
    """Ask for a slot's next worker."""
    slot.member = _wished(step, slot.number, generation, queues)
    step.do(ForkWorker(slot.member))


def fork_trial(step: Step, generation: Generation) -> None:
    """Ask for the worker that proves a new generation; it takes no job."""
    queues = generation.plan.of(1) if generation.plan.count else ("default",)
    step.state.trial = _wished(step, TRIAL, generation, queues)
    step.do(ForkWorker(step.state.trial))


def _wished(step: Step, slot: int, generation: Generation, queues: tuple[str, ...]) -> Member:
    state = step.state
    state.serial += 1
    name = f"{state.policy.name or state.identity}.{slot}.{state.serial}"
    if state.policy.name and state.policy.workers == 1 and slot == 1:
        name = state.policy.name
    return Member(slot, state.serial, name, generation.number, queues, asked=step.now)


def forked(step: Step, event: WorkerForked) -> None:
    """It has a pid. What it was told meanwhile, it is told now."""
    member = step.state.member(event.slot, event.serial)
    if member is None or member.pid is not None:
        return
    generation = step.state.generations.get(member.generation)
    timeout = (generation.policy if generation else step.state.policy).boot_timeout
    member.pid = event.pid
    member.deadline = step.now + timeout
    if member.state is WorkerState.FORKING:
        member.state = WorkerState.BOOTING
    step.debug(f"{member} forked, queues={listed(member.queues)}")
    if member.state is WorkerState.KILLED:
        step.do(SignalWorker(member, SIGKILL, group=True))
    elif member.stop is not Stop.NONE:
        step.do(SignalWorker(member, NOW if member.stop is Stop.NOW else SIGQUIT))


def not_forked(step: Step, event: WorkerNotForked) -> None:
    """Vetoed: the slot waits as asked. Failed: the slot backs off."""
    state = step.state
    member = state.member(event.slot, event.serial)
    if member is None:
        return
    if member.trial:
        state.trial = None
        _reject(step, member, f"no trial worker: {event.reason}")
        return
    slot = state.slot(event.slot)
    slot.member = None
    if event.leaving:
        slot.not_before = step.now + _HANDOVER
        _replace(step, member)
        return
    if event.retry_after is not None:
        slot.not_before = step.now + event.retry_after
        step.info(
            f"worker={slot.number} not forked, vetoed: {event.reason};"
            f" again in {event.retry_after:g} s"
        )
        return
    delay = failures.failed(step, slot)
    step.error(f"worker={slot.number} cannot be forked: {event.reason}; again in {delay:g} s")


def _replace(step: Step, member: Member) -> None:
    """Its fork server was told to leave by somebody else. It stays for as long as one of its
    workers has a job: end it, so that the workers become ours and another can take its place."""
    generation = step.state.generations.get(member.generation)
    if generation is not None and generation.stage is Stage.READY and not generation.left:
        generation.left = True
        step.do(KillForkServer(generation.number))


def observe(step: Step, member: Member, record: Record) -> None:
    """Take in what a worker's record says now."""
    if record.serial != member.serial or member.state is WorkerState.FORKING:
        return  # of the slot's last worker, or news that arrives out of order
    if record.deadline != member.seen.deadline:
        member.attempt = 0
    if record.done > member.seen.done:
        failures.job_ended(step)
    member.seen = record
    if member.state in (WorkerState.STOPPING, WorkerState.KILLED):
        return
    phase = record.phase
    if phase is Phase.CONNECTING:
        member.state = WorkerState.CONNECTING
    elif phase is Phase.IDLE:
        member.state = WorkerState.IDLE
    elif phase.holds_job:
        member.state = WorkerState.BUSY
    if (phase is Phase.IDLE or phase.holds_job) and not member.ready:
        _ready(step, member)


def notice_stopped(step: Step, member: Member, *, frozen: bool) -> None:
    """A process that is stopped (SIGSTOP) does nothing, whatever its record promises."""
    if not frozen:
        member.stopped_by = None
    elif member.stopped_by is None:
        member.stopped_by = step.now + step.state.policy.loop_timeout


def _ready(step: Step, member: Member) -> None:
    member.ready = True
    member.deadline = None
    step.state.ever_ready = True
    generation = step.state.generations.get(member.generation)
    if generation is not None:
        generation.proven = True
    what = "trial worker ready" if member.trial else "ready"
    step.info(f"{member} {what}, queues={listed(member.queues)}")


def adopt(step: Step, generation: int, found: dict[int, int]) -> None:
    """The fork server is gone: its workers are our children now, and were told to leave."""
    state = step.state
    for member in state.members():
        if member.generation != generation or member.adopted:
            continue
        if member.pid is None:
            pid = found.get(member.slot)
            if pid is None:
                _never_was(step, member)
                continue
            member.pid = pid
        member.adopted = True
        if member.state is WorkerState.KILLED:
            step.do(SignalWorker(member, SIGKILL, group=True))
            continue
        member.state = WorkerState.STOPPING
        if member.stop is Stop.NOW:
            step.do(SignalWorker(member, NOW))
        else:
            member.stop = Stop.DRAIN
            step.do(SetStop(member.slot, Stop.DRAIN))
            step.do(SignalWorker(member, SIGQUIT))


def _never_was(step: Step, member: Member) -> None:
    if member.trial:
        step.state.trial = None
    else:
        step.state.slot(member.slot).member = None


def gone(step: Step, event: WorkerGone) -> None:
    """A worker has ended: free its slot, count a failure, have its job recovered, tell plugins."""
    state = step.state
    member = state.member(event.slot, event.serial)
    if member is None:
        return
    member.pid = event.pid
    if event.record.serial == member.serial:
        if event.record.done > member.seen.done:
            failures.job_ended(step)
        if event.record.phase is not Phase.EMPTY:  # else it was written over: ours is newer
            member.seen = event.record
        if event.record.ready > 0 and not member.ready:
            _ready(step, member)  # and gone again before anybody saw it
    _note_a_stop(member)
    record = member.seen
    ending = _ending(step, member, event)
    if member.trial:
        state.trial = None
    else:
        _free(step, member, ending)
    if record.phase not in (Phase.EMPTY, Phase.BOOTING, Phase.LEFT):
        recovery = _recovery(member, event)
        state.recoveries[recovery.name] = recovery
    _log_end(step, member, ending, record)
    in_a_row = 0 if member.trial else state.slot(member.slot).failures
    step.do(TellExited(member, replace(ending, failures_in_a_row=in_a_row)))
    if member.trial:
        _reject(step, member, f"its trial worker ended before it was ready: {ending}")


def _note_a_stop(member: Member) -> None:
    """Who was killed for not obeying a command could not say so on its record, nor could who died
    before it knew of the job."""
    told = commands.concerns(member) or commands.awaits(member)
    if member.order is not Order.NONE and told:
        member.seen = replace(member.seen, stopped=member.order)


def _recovery(member: Member, event: WorkerGone) -> Recovery:
    """What it left in Redis. Noted until `recovered`, over a re-exec too."""
    return Recovery(
        slot=member.slot,
        name=member.seen.name or member.name,  # it may have had to take another one
        status=event.status,
        rusage=event.rusage,
        record=member.seen,
        queues=member.queues,
        interrupted=member.stop is Stop.NOW,
        reason=member.why,
    )


def _ending(step: Step, member: Member, event: WorkerGone) -> Exit:
    signum = event.status & 0x7F
    record = member.seen
    told = member.stop is not Stop.NONE
    left = record.reason.deliberate and record.phase is Phase.LEFT  # the rest is its libraries'
    return Exit(
        code=None if signum else event.status >> 8,
        signal=signum or None,
        booted=member.ready,
        expected=told or left,
        seconds=round(step.now - (record.started or member.asked), 3),
        rusage=event.rusage,
        job_id=record.job_id if record.phase.holds_job else None,
        failures_in_a_row=0,
    )


def _free(step: Step, member: Member, ending: Exit) -> None:
    slot = step.state.slot(member.slot)
    slot.member = None
    if member.seen.reason is Reason.BURST and ending.expected:
        slot.finished = not slot.look_again
    slot.look_again = False
    failures.weigh(step, slot, member, ending)


def _log_end(step: Step, member: Member, ending: Exit, record: Record) -> None:
    held = ""
    if ending.job_id:
        held = f", held job={printable(ending.job_id)} in phase {record.phase.name.lower()}"
    wasted = not member.trial and failures.is_wasted(member, ending)
    if ending.expected and not ending.job_id and not wasted:
        reason = record.reason.name.lower() if record.reason else "told"
        step.info(f"{member} left: {reason}, {record.done} jobs in {ending.seconds:.0f} s")
        return
    wait = 0.0
    if not member.trial:
        wait = max(0.0, step.state.slot(member.slot).not_before - step.now)
    again = f"; next try in {wait:g} s" if wait and not step.state.mode.leaving else ""
    if wasted:
        lived = f"recycled {ending.seconds:.1f} s after its start, before its first job"
        step.warn(f"{member} {lived}: a limit, or should_recycle, leaves no time for one{again}")
        return
    if record.reason is Reason.UNREADABLE and record.phase is Phase.LEFT:
        step.warn(f"{member} left: it could not read its jobs{again}")
        return
    up = "" if ending.booted else " before it was ready"
    step.warn(f"{member} ended{up}: {ending}{held}{again}")


def _reject(step: Step, member: Member, why: str) -> None:
    """The trial worker failed, so its generation has, if it still wants to come into service."""
    generation = step.state.generations.get(member.generation)
    if generation is not None and not generation.proven:
        generation.rejected = why
