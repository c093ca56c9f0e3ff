"""What somebody has asked of a worker through RQ (`rq.command`); the steward has heard it."""

from __future__ import annotations

from typing import Final

from resqued.core import orders
from resqued.core.actions import SetOrder, SignalWorker
from resqued.core.events import Commanded
from resqued.core.state import Member
from resqued.core.step import Step
from resqued.scoreboard import Order, Phase
from resqued.signals import COMMAND

HARD: Final = 2.0
"""Seconds that a job has to leave before its worker is killed; by itself the worker tries for one.

The rest is for jobs that Python cannot interrupt, such as those inside C code."""

_ORDERS: Final = {"stop": Order.STOP, "kill": Order.KILL}


def commanded(step: Step, event: Commanded) -> None:
    """Pass it on. Who is shut down finishes its job and is replaced, as in RQ's pool."""
    member = step.state.member(event.slot, event.serial)
    if member is None:
        return
    step.info(f"{member} told by a command: {event.word}")
    if event.word == "shutdown":
        orders.tell_drain(step, member)
        return
    order = _ORDERS.get(event.word)
    if order is None:
        return
    if event.execution_id == member.ordered and member.order in (order, Order.STOP):
        return  # told; a stop after a kill counts, since the job must not be retried
    member.order, member.ordered = order, event.execution_id
    member.hard_at = step.now + HARD
    step.do(SetOrder(member.slot, order, event.execution_id))
    step.do(SignalWorker(member, COMMAND))


def check(step: Step, member: Member) -> None:
    """Kill what does not leave its job."""
    if member.hard_at is None or member.hard_at > step.now:
        return
    member.hard_at = None
    if concerns(member):
        kind = "stop" if member.order is Order.STOP else "kill-horse"
        orders.kill(step, member, f"its job did not leave {HARD:g} s after a {kind} command")


def concerns(member: Member) -> bool:
    """Whether the execution that an order was for still runs, as far as we see."""
    seen = member.seen
    running = Phase.TAKEN <= seen.phase <= Phase.RUNNING
    return bool(member.ordered) and running and seen.execution_id == member.ordered


def awaits(member: Member) -> bool:
    """Whether an order is for what a step may have started, and its worker does not know yet."""
    return bool(member.ordered) and member.seen.token == member.ordered
