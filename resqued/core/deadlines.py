"""When the core must be asked again though nothing has happened."""

from __future__ import annotations

import math
from collections.abc import Iterator

from resqued.core import asked
from resqued.core.converge import REDIS_WAIT
from resqued.core.state import Member, Mode, Stage, State, Steward
from resqued.core.stewards import END, STALE


def next_deadline(state: State, now: float) -> float | None:
    """The soonest moment after `now` at which a step would decide something new."""
    soonest = math.inf
    for at in _all(state):
        if now < at < soonest:
            soonest = at
    return soonest if soonest < math.inf else None


def _all(state: State) -> Iterator[float]:
    for member in state.members():
        yield from _of_member(state, member)
        if not state.announced:
            yield member.asked + REDIS_WAIT + 0.05
    for slot in state.slots.values():
        if slot.member is None:
            yield slot.not_before
    for generation in state.generations.values():
        if generation.stage is Stage.WAITING:
            yield generation.not_before
        if generation.deadline is not None:
            yield generation.deadline
        hung_at = asked.hung_at(state, generation)
        if hung_at is not None:
            yield max(hung_at, state.judge_after)
    for recovery in state.recoveries.values():
        yield recovery.not_before
    yield state.steward_not_before
    for steward in state.stewards.values():
        yield from _of_steward(state, steward)
    if state.mode is not Mode.OVER:
        yield from (
            at
            for at in (state.stop_by, state.sort_at, state.recover_by, state.retire_by)
            if at is not None
        )


def _of_steward(state: State, steward: Steward) -> Iterator[float]:
    if steward.kill_at is not None:
        yield steward.kill_at
    if steward.told:
        yield steward.told + 2 * END
    if steward.stale_at is not None:
        yield max(steward.stale_at + STALE, state.judge_after)


def _of_member(state: State, member: Member) -> Iterator[float]:
    if member.nudge_at is not None:
        yield member.nudge_at
    if member.kill_at is not None:
        yield member.kill_at
    if member.hard_at is not None:
        yield member.hard_at
    overdue_at = member.overdue_at
    if overdue_at is not None:
        yield max(overdue_at, member.ask_after, state.judge_after)
