"""Orders for a worker's job in hand: commands that RQ users send (`rq.command`), which the steward
has received, and the verdict Fail of `worker_stuck`."""

from __future__ import annotations

from typing import Final

from resqued.core import worker_control
from resqued.core.actions import SetOrder
from resqued.core.state import WorkerHandle
from resqued.core.step import Step
from resqued.log_events import LogEvent
from resqued.messages import Commanded
from resqued.scoreboard import Order, Phase, StopCause
from resqued.signal_table import COMMAND

HARD: Final = 2.0
"""Seconds from a command until a worker whose job has not ended is killed. The worker interrupts
its job at once; a job inside C code cannot be interrupted."""

PATIENCE_OF_FAIL: Final = 3.0
"""The same for the verdict Fail."""

_ORDERS: Final = {"stop": Order.STOP, "kill": Order.KILL}

_WORDS: Final = {
    Order.STOP: f"{HARD:g} s after a stop command",
    Order.KILL: f"{HARD:g} s after a kill-horse command",
    Order.FAIL: f"{PATIENCE_OF_FAIL:g} s after it was to fail",
}


def commanded(step: Step, message: Commanded) -> None:
    """Pass a command on. A worker that is shut down finishes its job and is replaced, as in RQ's
    pool."""
    worker = step.state.worker(message.slot, message.serial)
    if worker is None:
        return
    step.info(
        f"{worker} received a command: {message.word}",
        LogEvent.REQUESTED,
        **worker.fields(),
        verb=message.word,
        source="rq",
    )
    if message.word == "shutdown":
        worker_control.tell_drain(step, worker, StopCause.SHUTDOWN)
        return
    order = _ORDERS.get(message.word)
    if order is None:
        return
    if message.execution_id == worker.ordered:
        if worker.order in (order, Order.STOP):
            return  # once; but a stop after a kill is passed on, since the job must not be retried
        if worker.order is Order.FAIL and order is Order.KILL:
            return  # for the same reason
    _order(step, worker, order, message.execution_id, HARD)


def fail(step: Step, worker: WorkerHandle, reason: str) -> bool:
    """Have the job in hand fail with a reason, without a retry: it is interrupted, and the worker
    is killed if the job does not end. False: no job is in hand whose outcome is still open."""
    seen = worker.seen
    if not (Phase.TAKEN <= seen.phase <= Phase.RUNNING and seen.execution_id):
        return False
    if worker.ordered == seen.execution_id and worker.order.is_final:
        return True  # once; and a stopped job stays one
    worker.failure = reason
    _order(step, worker, Order.FAIL, seen.execution_id, PATIENCE_OF_FAIL, reason)
    return True


def _order(
    step: Step,
    worker: WorkerHandle,
    order: Order,
    execution_id: str,
    seconds: float,
    reason: str = "",
) -> None:
    worker.order, worker.ordered = order, execution_id
    worker.hard_at = step.now + seconds
    step.do(SetOrder(worker.slot, order, execution_id, reason))
    worker_control.signal(step, worker, COMMAND)


def check(step: Step, worker: WorkerHandle) -> None:
    """Kill a worker whose job did not end."""
    if worker.hard_at is None or worker.hard_at > step.now:
        return
    worker.hard_at = None
    if concerns(worker):
        worker_control.kill(step, worker, f"its job did not leave {_WORDS[worker.order]}")


def concerns(worker: WorkerHandle) -> bool:
    """Whether the execution that an order was for still runs, as far as its record says."""
    seen = worker.seen
    running = Phase.TAKEN <= seen.phase <= Phase.RUNNING
    return bool(worker.ordered) and running and seen.execution_id == worker.ordered


def awaits(worker: WorkerHandle) -> bool:
    """Whether an order is for a job that a step under way may start."""
    return bool(worker.ordered) and worker.seen.token == worker.ordered
