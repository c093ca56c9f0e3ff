"""Workers one by one: forked, seen, told to leave, killed, adopted, gone."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from resqued.core.actions import (
    AskStuck,
    DumpStacks,
    ForkWorker,
    KillForkServer,
    SetStop,
    SignalWorker,
    TellExited,
)
from resqued.core.backoff import backoff
from resqued.core.events import Judged, WorkerForked, WorkerGone, WorkerNotForked
from resqued.core.state import Generation, Member, Recovery, Slot
from resqued.core.step import Step
from resqued.records import Exit, WorkerState
from resqued.scoreboard import TRIAL, Phase, Reason, Record, Stop
from resqued.signals import NOW
from resqued.verdicts import Dump, Kill, Terminate, Wait

SIGQUIT: Final = 3
SIGKILL: Final = 9

NUDGE: Final = 1.0
"""Seconds after which a worker that was told NOW is interrupted once more."""

PATIENCE: Final = 3.0
"""Seconds after which a worker that was told NOW is killed."""

STEADY: Final = 60.0
"""Seconds of life after which a slot's failures are forgotten."""

_NO_OPINION: Final = 30.0


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
    step.debug(f"{member} forked, queues={','.join(member.queues)}")
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
    if event.retry_after is not None:
        slot.not_before = step.now + event.retry_after
        step.info(
            f"worker={slot.number} not forked, vetoed: {event.reason};"
            f" again in {event.retry_after:g} s"
        )
        return
    delay = _failed(step, slot)
    step.error(f"worker={slot.number} cannot be forked: {event.reason}; again in {delay:g} s")


def _failed(step: Step, slot: Slot) -> float:
    slot.failures += 1
    delay = backoff(slot.failures)
    slot.not_before = step.now + delay
    return delay


def observe(step: Step, member: Member, record: Record) -> None:
    """Take in what a worker's record says now."""
    if record.serial != member.serial or member.state is WorkerState.FORKING:
        return  # of the slot's last worker, or news that arrives out of order
    if record.deadline != member.seen.deadline:
        member.attempt = 0
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


def _ready(step: Step, member: Member) -> None:
    member.ready = True
    member.deadline = None
    step.state.ever_ready = True
    generation = step.state.generations.get(member.generation)
    if generation is not None:
        generation.proven = True
    what = "trial worker ready" if member.trial else "ready"
    step.info(f"{member} {what}, queues={','.join(member.queues)}")


def tell_drain(step: Step, member: Member) -> None:
    """Tell a worker, once, to finish its job and leave."""
    if member.stop is not Stop.NONE or member.state is WorkerState.KILLED:
        return
    member.stop = Stop.DRAIN
    step.do(SetStop(member.slot, Stop.DRAIN))
    if member.state is not WorkerState.FORKING:
        member.state = WorkerState.STOPPING
        step.do(SignalWorker(member, SIGQUIT))


def tell_now(step: Step, member: Member) -> None:
    """Tell a worker to give its job back and leave: at 0 s, at 1 s, KILL at 3 s."""
    if member.stop is Stop.NOW or member.state is WorkerState.KILLED:
        return
    member.stop = Stop.NOW
    member.nudge_at = step.now + NUDGE
    member.kill_at = step.now + PATIENCE
    step.do(SetStop(member.slot, Stop.NOW))
    if member.state is not WorkerState.FORKING:
        member.state = WorkerState.STOPPING
        step.do(SignalWorker(member, NOW))


def kill(step: Step, member: Member, why: str) -> None:
    """SIGKILL its process group; its exit will be told."""
    if member.state is WorkerState.KILLED:
        return
    member.state = WorkerState.KILLED
    member.why = why
    member.kill_at = step.now + PATIENCE  # then its fork server is not doing its work
    if member.pid is not None:
        step.warn(f"{member} killed: {why}")
        step.do(SignalWorker(member, SIGKILL, group=True))


def check(step: Step, member: Member) -> None:
    """Patience with a worker that was told, then its deadline."""
    if member.nudge_at is not None and member.nudge_at <= step.now:
        member.nudge_at = None
        if member.state is WorkerState.STOPPING:
            step.do(SignalWorker(member, NOW))
    if member.kill_at is not None and member.kill_at <= step.now:
        member.kill_at = None
        if member.state is WorkerState.KILLED:
            _unreported(step, member)
        else:
            kill(step, member, f"did not leave in {PATIENCE:g} s")
    overdue = member.overdue_at
    if overdue is not None and overdue <= step.now and _may_judge(step, member):
        attempt, member.attempt = member.attempt, member.attempt + 1
        member.ask_after = step.now + _NO_OPINION
        step.do(AskStuck(member, step.now - overdue, attempt))


def _may_judge(step: Step, member: Member) -> bool:
    return member.ask_after <= step.now and step.state.judge_after <= step.now


def _unreported(step: Step, member: Member) -> None:
    """Killed, and nobody tells us of its end: its fork server hangs. Become the parent."""
    generation = step.state.generations.get(member.generation)
    if member.adopted or generation is None or generation.pid is None:
        step.do(SignalWorker(member, SIGKILL, group=True))
        member.kill_at = step.now + PATIENCE
        return
    step.error(f"gen={generation.number} fork server does not answer: killed")
    member.kill_at = step.now + PATIENCE
    step.do(KillForkServer(generation.number))


def judged(step: Step, event: Judged) -> None:
    """Carry out what `worker_stuck` answered."""
    member = step.state.member(event.slot, event.serial)
    if member is None or member.state is WorkerState.KILLED:
        return
    verdict = event.verdict
    overdue = max(0.0, step.now - (member.overdue_at or step.now))
    what = f"{member} stuck in {_doing(member)}, {overdue:.0f} s past its deadline"
    if isinstance(verdict, Wait):
        member.ask_after = step.now + max(0.0, verdict.seconds)
    elif verdict == Dump:
        step.warn(f"{what}: its stacks follow")
        member.ask_after = step.now + 1.0
        step.do(DumpStacks(member))
    elif verdict == Terminate:
        step.warn(f"{what}: interrupted")
        member.ask_after = step.now + PATIENCE + 2.0
        tell_now(step, member)
    elif verdict == Kill:
        kill(step, member, f"stuck in {_doing(member)} for {overdue:.0f} s past its deadline")
    elif member.attempt == 1:
        step.warn(f"{what}; no plugin judges it")


def _doing(member: Member) -> str:
    record = member.seen
    if record.phase.holds_job and record.job_id:
        return f"job={record.job_id} {record.function}".rstrip()
    return f"phase {record.phase.name.lower()}"


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
        member.seen = event.record
        member.ready = member.ready or event.record.ready > 0
    record = member.seen
    ending = _ending(step, member, event)
    if member.trial:
        state.trial = None
    else:
        _free(step, member, ending)
    if record.phase not in (Phase.EMPTY, Phase.BOOTING, Phase.LEFT):
        state.recoveries[member.name] = _recovery(member, event)
    _log_end(step, member, ending, record)
    failures = 0 if member.trial else state.slot(member.slot).failures
    step.do(TellExited(member, replace(ending, failures_in_a_row=failures)))
    if member.trial:
        _reject(step, member, f"its trial worker ended before it was ready: {ending}")


def _recovery(member: Member, event: WorkerGone) -> Recovery:
    """What it left in Redis. Noted until `recovered`, over a re-exec too."""
    return Recovery(
        slot=member.slot,
        name=member.name,
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
    left = signum == 0 and record.reason.deliberate and record.phase is Phase.LEFT
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
        slot.finished = True
    if ending.expected:
        return
    if ending.booted and ending.seconds >= STEADY:
        slot.failures = 0
    _failed(step, slot)


def _log_end(step: Step, member: Member, ending: Exit, record: Record) -> None:
    held = f", held job={ending.job_id} in phase {record.phase.name.lower()}" * bool(ending.job_id)
    if ending.expected and not ending.job_id:
        reason = record.reason.name.lower() if record.reason else "told"
        step.info(f"{member} left: {reason}, {record.done} jobs in {ending.seconds:.0f} s")
        return
    wait = 0.0
    if not member.trial:
        wait = max(0.0, step.state.slot(member.slot).not_before - step.now)
    again = f"; next try in {wait:g} s" if wait and not step.state.mode.leaving else ""
    up = "" if ending.booted else " before it was ready"
    step.warn(f"{member} ended{up}: {ending}{held}{again}")


def _reject(step: Step, member: Member, why: str) -> None:
    """The trial worker failed, so its generation has, if it still wants to come into service."""
    generation = step.state.generations.get(member.generation)
    if generation is not None and not generation.proven:
        generation.rejected = why
