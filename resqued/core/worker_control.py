"""Telling a worker to drain or to stop now, killing it, and judging whether it is stuck.

Each worker gets each request once; then deadlines enforce it.
"""

from __future__ import annotations

from typing import Final

from resqued.core.actions import AskStuck, KillForkServer, KillGroup, Send, SetStop, SignalChild
from resqued.core.events import Judged
from resqued.core.state import WorkerHandle
from resqued.core.step import Step
from resqued.messages import SignalWorker
from resqued.printable import printable
from resqued.scoreboard import Stop
from resqued.signal_table import DUMP, NOW
from resqued.snapshots import WorkerState
from resqued.verdicts import Dump, Kill, Terminate, Wait

SIGQUIT: Final = 3
SIGKILL: Final = 9

NUDGE: Final = 1.0
"""Seconds after which a worker that was told NOW is interrupted once more."""

PATIENCE: Final = 3.0
"""Seconds after which a worker that was told NOW is killed."""

_NO_OPINION: Final = 30.0  # seconds until plugins without a verdict are asked again


def signal(step: Step, worker: WorkerHandle, signum: int) -> None:
    """Send a signal through its parent, which knows whether the pid is still its own."""
    if worker.pid is None:
        return
    if worker.adopted:
        step.do(SignalChild(worker.pid, signum))
    else:
        step.do(Send(worker.generation, SignalWorker(worker.slot, worker.pid, signum)))


def kill_group(step: Step, worker: WorkerHandle) -> None:
    """SIGKILL to its process group, in the same way."""
    if worker.pid is None:
        return
    if worker.adopted:
        step.do(KillGroup(worker.slot, worker.pid))
    else:
        message = SignalWorker(worker.slot, worker.pid, SIGKILL, group=True)
        step.do(Send(worker.generation, message))


def tell_drain(step: Step, worker: WorkerHandle) -> None:
    """Tell a worker, once, to finish its job and leave."""
    if worker.stop is not Stop.NONE or worker.state is WorkerState.KILLED:
        return
    worker.stop = Stop.DRAIN
    step.do(SetStop(worker.slot, Stop.DRAIN))
    if worker.state is not WorkerState.FORKING:
        worker.state = WorkerState.STOPPING
        signal(step, worker, SIGQUIT)


def tell_now(step: Step, worker: WorkerHandle) -> None:
    """Tell a worker to give its job back and leave: at 0 s, at 1 s, KILL at 3 s."""
    if worker.stop is Stop.NOW or worker.state is WorkerState.KILLED:
        return
    worker.stop = Stop.NOW
    worker.nudge_at = step.now + NUDGE
    worker.kill_at = step.now + PATIENCE
    step.do(SetStop(worker.slot, Stop.NOW))
    if worker.state is not WorkerState.FORKING:
        worker.state = WorkerState.STOPPING
        signal(step, worker, NOW)


def kill(step: Step, worker: WorkerHandle, why: str) -> None:
    """SIGKILL its process group. Its exit follows as WorkerExited."""
    if worker.state is WorkerState.KILLED:
        return
    worker.state = WorkerState.KILLED
    worker.why = why
    worker.kill_at = step.now + PATIENCE  # by then its fork server has reported the exit
    if worker.pid is not None:
        step.warn(f"{worker} killed: {why}")
        kill_group(step, worker)


def check(step: Step, worker: WorkerHandle) -> None:
    """Do what is due for a worker: the second interrupt, the kill, the hook `worker_stuck`."""
    if worker.nudge_at is not None and worker.nudge_at <= step.now:
        worker.nudge_at = None
        if worker.state is WorkerState.STOPPING:
            signal(step, worker, NOW)
    if worker.kill_at is not None and worker.kill_at <= step.now:
        worker.kill_at = None
        if worker.state is WorkerState.KILLED:
            _unreported(step, worker)
        else:
            kill(step, worker, f"did not leave in {PATIENCE:g} s")
    overdue = worker.overdue_at
    if overdue is not None and overdue <= step.now and _may_judge(step, worker):
        attempt, worker.attempt = worker.attempt, worker.attempt + 1
        worker.ask_after = step.now + _NO_OPINION
        step.do(AskStuck(worker, step.now - overdue, attempt))


def _may_judge(step: Step, worker: WorkerHandle) -> bool:
    return worker.ask_after <= step.now and step.state.judge_after <= step.now


def _unreported(step: Step, worker: WorkerHandle) -> None:
    """It was killed and no exit was reported, so its fork server hangs: kill that one, too."""
    generation = step.state.generations.get(worker.generation)
    if worker.adopted or generation is None or generation.pid is None:
        kill_group(step, worker)
        worker.kill_at = step.now + PATIENCE
        return
    step.error(f"gen={generation.number} fork server does not answer: killed")
    worker.kill_at = step.now + PATIENCE
    step.do(KillForkServer(generation.number))


def judged(step: Step, event: Judged) -> None:
    """Carry out what `worker_stuck` answered."""
    worker = step.state.worker(event.slot, event.serial)
    if worker is None or worker.state is WorkerState.KILLED:
        return
    overdue = max(0.0, step.now - (worker.overdue_at or step.now))
    what = f"{worker} stuck in {_doing(worker)}, {overdue:.0f} s past its deadline"
    verdict = event.verdict
    if isinstance(verdict, Wait):
        worker.ask_after = step.now + max(0.0, verdict.seconds)
    elif verdict == Dump:
        step.warn(f"{what}: its stacks follow")
        worker.ask_after = step.now + 1.0
        signal(step, worker, DUMP)
    elif verdict == Terminate:
        step.warn(f"{what}: interrupted")
        worker.ask_after = step.now + PATIENCE + 2.0
        tell_now(step, worker)
    elif verdict == Kill:
        kill(step, worker, f"stuck in {_doing(worker)} for {overdue:.0f} s past its deadline")
    elif worker.attempt == 1:
        step.warn(f"{what}; no plugin judges it")


def _doing(worker: WorkerHandle) -> str:
    record = worker.seen
    if record.phase.holds_job and record.job_id:
        return printable(f"job={record.job_id} {record.function}".rstrip())
    return f"phase {record.phase.name.lower()}"
