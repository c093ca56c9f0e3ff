"""Telling a worker to drain or to stop now, interrupting it, and killing it.

Each worker gets each request once; then deadlines enforce it.
"""

from __future__ import annotations

from typing import Final

from resqued.core.actions import KillForkServer, KillGroup, Send, SetStop, SignalChild
from resqued.core.state import WorkerHandle
from resqued.core.step import Step
from resqued.log_events import LogEvent
from resqued.messages import SignalWorker
from resqued.scoreboard import Stop, StopCause
from resqued.signal_table import DRAIN, NOW
from resqued.snapshots import WorkerState

SIGKILL: Final = 9

NUDGE: Final = 1.0
"""Seconds after which a worker that was told NOW is interrupted once more."""

PATIENCE: Final = 3.0
"""Seconds after which a worker that was told NOW is killed."""


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


def tell_drain(step: Step, worker: WorkerHandle, cause: StopCause) -> None:
    """Tell a worker, once, to finish its job and leave."""
    if worker.stop is not Stop.NONE or worker.state is WorkerState.KILLED:
        return
    worker.stop, worker.cause = Stop.DRAIN, cause
    step.do(SetStop(worker.slot, Stop.DRAIN, cause))
    if worker.state is not WorkerState.FORKING:
        worker.state = WorkerState.STOPPING
        signal(step, worker, DRAIN)


def tell_now(step: Step, worker: WorkerHandle, cause: StopCause) -> None:
    """Tell a worker, once, to give its job back and leave: at 0 s, at 1 s, KILL at 3 s."""
    if worker.state is WorkerState.KILLED or worker.kill_at is not None:
        return
    interrupt(step, worker, cause)
    worker.kill_at = step.now + PATIENCE


def interrupt(step: Step, worker: WorkerHandle, cause: StopCause) -> None:
    """The same without the KILL: whether it comes to that, `worker_stuck` decides."""
    if worker.state is WorkerState.KILLED:
        return
    worker.stop, worker.cause = Stop.NOW, cause
    worker.nudge_at = step.now + NUDGE
    step.do(SetStop(worker.slot, Stop.NOW, cause))
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
        step.info(f"{worker} killed: {why}", LogEvent.WORKER_KILLED, **worker.fields(), reason=why)
        kill_group(step, worker)


def check(step: Step, worker: WorkerHandle) -> None:
    """Do what is due for a worker that was told to leave: the second interrupt, the kill."""
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


def _unreported(step: Step, worker: WorkerHandle) -> None:
    """It was killed and no exit was reported, so its fork server hangs: kill that one, too."""
    generation = step.state.generations.get(worker.generation)
    if worker.adopted or generation is None or generation.pid is None:
        kill_group(step, worker)
        worker.kill_at = step.now + PATIENCE
        return
    step.error(
        f"gen={generation.number} fork server does not answer: killed",
        LogEvent.FORK_SERVER_KILLED,
        gen=generation.number,
        reason="it does not answer",
    )
    worker.kill_at = step.now + PATIENCE
    step.do(KillForkServer(generation.number))
