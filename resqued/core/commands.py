"""Commands that RQ users send to a worker (`rq.command`); the steward has received them."""

from __future__ import annotations

from typing import Final

from resqued.core import worker_control
from resqued.core.actions import SetOrder
from resqued.core.state import WorkerHandle
from resqued.core.step import Step
from resqued.messages import Commanded
from resqued.scoreboard import Order, Phase
from resqued.signal_table import COMMAND

HARD: Final = 2.0
"""Seconds from a command until a worker whose job has not ended is killed. The worker interrupts
its job at once; a job inside C code cannot be interrupted."""

_ORDERS: Final = {"stop": Order.STOP, "kill": Order.KILL}


def commanded(step: Step, message: Commanded) -> None:
    """Pass a command on. A worker that is shut down finishes its job and is replaced, as in RQ's
    pool."""
    worker = step.state.worker(message.slot, message.serial)
    if worker is None:
        return
    step.info(f"{worker} received a command: {message.word}")
    if message.word == "shutdown":
        worker_control.tell_drain(step, worker)
        return
    order = _ORDERS.get(message.word)
    if order is None:
        return
    if message.execution_id == worker.ordered and worker.order in (order, Order.STOP):
        return  # once; but a stop after a kill is passed on, since the job must not be retried
    worker.order, worker.ordered = order, message.execution_id
    worker.hard_at = step.now + HARD
    step.do(SetOrder(worker.slot, order, message.execution_id))
    worker_control.signal(step, worker, COMMAND)


def check(step: Step, worker: WorkerHandle) -> None:
    """Kill a worker whose job did not end."""
    if worker.hard_at is None or worker.hard_at > step.now:
        return
    worker.hard_at = None
    if concerns(worker):
        kind = "stop" if worker.order is Order.STOP else "kill-horse"
        worker_control.kill(
            step, worker, f"its job did not leave {HARD:g} s after a {kind} command"
        )


def concerns(worker: WorkerHandle) -> bool:
    """Whether the execution that an order was for still runs, as far as its record says."""
    seen = worker.seen
    running = Phase.TAKEN <= seen.phase <= Phase.RUNNING
    return bool(worker.ordered) and running and seen.execution_id == worker.ordered


def awaits(worker: WorkerHandle) -> bool:
    """Whether an order is for a job that a step under way may start."""
    return bool(worker.ordered) and worker.seen.token == worker.ordered
