"""The steward: one, of the generation in service; replaced when it dies, or its fork server does.

A steward says hello on the scoreboard, and whoever is older leaves by itself. So between two of
them nobody is without heartbeats, and one that nobody knows of does not stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from resqued.core.actions import ClearStewardStatus, ForkSteward, SignalSteward
from resqued.core.backoff import backoff
from resqued.core.events import StewardForked, StewardGone, how_it_ended
from resqued.core.state import Mode, State, Steward
from resqued.core.step import Step
from resqued.scoreboard import StewardStatus

SIGKILL: Final = 9
SIGTERM: Final = 15

STALE: Final = 60.0
"""Seconds without a turn of its loop after which a steward counts as hung."""

STEADY: Final = 60.0
"""Seconds of life after which earlier failures are forgotten."""

_AT_ONCE: Final = 1.0
"""Seconds after which a steward that leaves in good order, and was not told to, has not failed."""

END: Final = 2.0
"""Seconds that it may take to leave at the end."""


def keep(step: Step, status: StewardStatus) -> None:
    """Once a turn: see how it does, and have one if there is none."""
    state = step.state
    if status.serial > state.serial:  # somebody has written over it: each steward would give way
        step.do(ClearStewardStatus())
    for steward in list(state.stewards.values()):
        if steward.serial == status.serial:
            if not steward.ready:  # from now on it is watched, whatever stood there before
                steward.ready, steward.turned = True, step.now
            if status.turned <= step.now:  # else somebody has written over it
                steward.turned = max(steward.turned, status.turned)
        _check(step, steward)
    service = state.service()
    if service is None or not _is_wanted(state) or state.steward_not_before > step.now:
        return
    if any(s.generation == service.number and not s.adopted for s in state.stewards.values()):
        return
    state.serial += 1
    steward = Steward(state.serial, service.number, asked=step.now)
    state.stewards[steward.serial] = steward
    step.do(ForkSteward(steward.generation, steward.serial))


def _is_wanted(state: State) -> bool:
    """Until the end: as long as workers finish their jobs, somebody must vouch for them."""
    return state.mode in (Mode.RUNNING, Mode.RESTING) or (
        state.mode is Mode.DRAINING and bool(state.workers())
    )


def _check(step: Step, steward: Steward) -> None:
    if steward.kill_at is not None and steward.kill_at <= step.now:
        steward.kill_at = step.now + END
        step.do(SignalSteward(steward, SIGKILL))
    elif _is_stale(step, steward):
        step.error(f"{steward} killed: its loop stands still for {STALE:g} s")
        steward.kill_at = step.now + END
        step.do(SignalSteward(steward, SIGKILL))


def _is_stale(step: Step, steward: Steward) -> bool:
    if steward.stale_at is None or steward.kill_at is not None:
        return False
    return max(steward.stale_at + STALE, step.state.judge_after) <= step.now


def forked(step: Step, event: StewardForked) -> None:
    """It has a pid, or there was no process to be had."""
    steward = step.state.stewards.get(event.serial)
    if steward is None:
        return
    if not event.pid:
        del step.state.stewards[event.serial]
        _failed(step, steward, "it cannot be forked")
        return
    steward.pid = event.pid
    if steward.kill_at is not None:  # the end has begun meanwhile
        step.do(SignalSteward(steward, SIGTERM))


def gone(step: Step, event: StewardGone) -> None:
    """One has ended. If it was the newest, and nobody told it to, that is a failure."""
    state = step.state
    steward = state.stewards.pop(event.serial, None)
    if steward is None:
        return
    newer = any(s.serial > steward.serial and s.ready for s in state.stewards.values())
    told = newer or state.mode.leaving or steward.kill_at is not None
    if told or (event.status == 0 and step.now - steward.asked >= _AT_ONCE):
        step.debug(f"{steward} left")
        return
    _failed(step, steward, how_it_ended(event.status))


def _failed(step: Step, steward: Steward, why: str) -> None:
    state = step.state
    if step.now - steward.asked > STEADY:
        state.steward_failures = 0
    state.steward_failures += 1
    delay = backoff(state.steward_failures)
    state.steward_not_before = step.now + delay
    again = f"; next try in {delay:g} s" if delay else ""
    step.warn(f"{steward} ended: {why}{again}")


def adopt(step: Step, generation: int, found: Mapping[int, int]) -> None:
    """Their fork server is gone: they are our children now, and go on until there is another.

    found: pids, by serial, of those that it forked and could not tell of any more.
    """
    for steward in list(step.state.stewards.values()):
        if steward.generation != generation or steward.adopted:
            continue
        steward.pid = steward.pid or found.get(steward.serial)
        if steward.pid is None:
            del step.state.stewards[steward.serial]  # it never was
            continue
        steward.adopted = True
        if steward.kill_at is not None:
            step.do(SignalSteward(steward, SIGKILL if steward.given_up else SIGTERM))


def give_up(step: Step) -> None:
    """Redis does not answer, so none can sign off. Their fork servers are killed; then they are."""
    for steward in step.state.stewards.values():
        steward.given_up = True
        steward.told = steward.told or step.now
        steward.kill_at = step.now + END
        if steward.adopted:
            step.do(SignalSteward(steward, SIGKILL))


def end(step: Step) -> bool:
    """Tell all to leave; whether the end may go on: they have, or it would take too long."""
    state = step.state
    for steward in state.stewards.values():
        if not steward.told:
            steward.told = step.now
            steward.kill_at = step.now + END
            step.do(SignalSteward(steward, SIGTERM))
    patience = 2 * END
    return all(steward.told + patience <= step.now for steward in state.stewards.values())
