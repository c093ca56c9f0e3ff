"""What a worker is told: to finish and leave, to leave now, nothing any more; and for how long
the arbiter waits for it. A worker is told each thing once.
"""

from __future__ import annotations

from typing import Final

from resqued.core.actions import AskStuck, DumpStacks, KillForkServer, SetStop, SignalWorker
from resqued.core.events import Judged
from resqued.core.state import Member
from resqued.core.step import Step
from resqued.printable import printable
from resqued.records import WorkerState
from resqued.scoreboard import Stop
from resqued.signals import NOW
from resqued.verdicts import Dump, Kill, Terminate, Wait

SIGQUIT: Final = 3
SIGKILL: Final = 9

NUDGE: Final = 1.0
"""Seconds after which a worker that was told NOW is interrupted once more."""

PATIENCE: Final = 3.0
"""Seconds after which a worker that was told NOW is killed."""

_NO_OPINION: Final = 30.0  # seconds until a stuck worker that nobody judges is judged again


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
        return printable(f"job={record.job_id} {record.function}".rstrip())
    return f"phase {record.phase.name.lower()}"
