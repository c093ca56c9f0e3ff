"""The next moment at which the core must decide without an event."""

from __future__ import annotations

import math
from collections.abc import Iterator

from resqued.core import requests
from resqued.core.reconcile import REDIS_WAIT
from resqued.core.state import Mode, Stage, State, StewardHandle, WorkerHandle
from resqued.core.stewards import END, STALE


def next_deadline(state: State, now: float) -> float | None:
    """The soonest moment after `now` at which a step would decide something new."""
    soonest = math.inf
    for at in _all(state):
        if now < at < soonest:
            soonest = at
    return soonest if soonest < math.inf else None


def _all(state: State) -> Iterator[float]:
    for worker in state.workers():
        yield from _of_member(state, worker)
        if not state.announced:
            yield worker.asked + REDIS_WAIT + 0.05
    for slot in state.slots.values():
        if slot.worker is None:
            yield slot.not_before
    for generation in state.generations.values():
        if generation.stage in (Stage.WAITING, Stage.PROVING):
            yield generation.not_before
        if generation.deadline is not None:
            yield generation.deadline
        hung_at = requests.hung_at(state, generation)
        if hung_at is not None:
            yield max(hung_at, state.judge_after)
    for recovery in state.recoveries.values():
        yield recovery.not_before
        if recovery.line is not None:
            yield recovery.line.by
    yield state.steward_not_before
    for steward in state.stewards.values():
        yield from _of_steward(state, steward)
    if state.mode is not Mode.OVER:
        yield from (
            at
            for at in (state.stop_by, state.sort_at, state.recover_by, state.retire_by)
            if at is not None
        )


def _of_steward(state: State, steward: StewardHandle) -> Iterator[float]:
    if steward.kill_at is not None:
        yield steward.kill_at
    if steward.stopped:
        yield steward.stopped + 2 * END
    if steward.stale_at is not None:
        yield max(steward.stale_at + STALE, state.judge_after)


def _of_member(state: State, worker: WorkerHandle) -> Iterator[float]:
    if worker.nudge_at is not None:
        yield worker.nudge_at
    if worker.kill_at is not None:
        yield worker.kill_at
    if worker.hard_at is not None:
        yield worker.hard_at
    overdue_at = worker.overdue_at
    if overdue_at is not None:
        yield max(overdue_at, worker.ask_after, state.judge_after)
