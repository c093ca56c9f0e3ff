"""The steward: one, of the generation in service; replaced when it dies or its fork server does.

A new steward announces itself on the scoreboard, and older ones leave by themselves. So there is no
gap in the workers' heartbeats, and a steward that the arbiter does not know of does not stay.
"""

from __future__ import annotations

from typing import Final

from resqued.backoff import backoff
from resqued.core.actions import ClearStewardStatus, Send, SignalChild
from resqued.core.state import Mode, OpenRequest, State, StewardHandle
from resqued.core.step import Step
from resqued.death import how_it_ended
from resqued.log_events import LogEvent
from resqued.messages import (
    ForkSteward,
    SignalSteward,
    StewardExited,
    StewardForked,
    StewardNotForked,
)
from resqued.scoreboard import StewardStatus
from resqued.signal_table import SIGN_OFF

SIGKILL: Final = 9

STALE: Final = 60.0
"""Seconds without a turn of its loop after which a steward is treated as hung."""

STEADY: Final = 60.0
"""Seconds of life after which earlier failures are forgotten."""

_AT_ONCE: Final = 1.0
"""Seconds after which a steward that leaves in good order, and was not told to, has not failed."""

END: Final = 2.0
"""Seconds that it may take to leave at the end."""


def keep(step: Step, status: StewardStatus) -> None:
    """Once a turn: read its status, kill one that hangs, and ask for one if there is none."""
    state = step.state
    if status.serial > state.serial:  # it was overwritten: each steward would exit
        step.do(ClearStewardStatus())
    for steward in list(state.stewards.values()):
        if steward.serial == status.serial:
            if not steward.ready:  # from now on its loop is watched
                steward.ready, steward.turned = True, step.now
            if status.turned <= step.now:  # else it was overwritten
                steward.turned = max(steward.turned, status.turned)
        _check(step, steward)
    service = state.service()
    if service is None or not _is_wanted(state) or state.steward_not_before > step.now:
        return
    if any(s.generation == service.number and not s.adopted for s in state.stewards.values()):
        return
    state.serial += 1
    request = OpenRequest(service.number, step.now)
    steward = StewardHandle(state.serial, service.number, asked=step.now, request=request)
    state.stewards[steward.serial] = steward
    step.do(Send(steward.generation, ForkSteward(steward.serial)))


def _signal(step: Step, steward: StewardHandle, signum: int) -> None:
    """Send a signal through its parent, which knows whether the pid is still its own."""
    if not steward.adopted:
        step.do(Send(steward.generation, SignalSteward(steward.serial, signum)))
    elif steward.pid is not None:
        step.do(SignalChild(steward.pid, signum))


def _is_wanted(state: State) -> bool:
    """Whether a steward is needed: until the last worker has gone."""
    return state.mode in (Mode.RUNNING, Mode.RESTING) or (
        state.mode is Mode.DRAINING and bool(state.workers())
    )


def _check(step: Step, steward: StewardHandle) -> None:
    if steward.kill_at is not None and steward.kill_at <= step.now:
        steward.kill_at = step.now + END
        _signal(step, steward, SIGKILL)
    elif _is_stale(step, steward):
        step.error(
            f"{steward} killed: its loop stands still for {STALE:g} s",
            LogEvent.STEWARD_KILLED,
            reason="its loop stands still",
        )
        steward.kill_at = step.now + END
        _signal(step, steward, SIGKILL)


def _is_stale(step: Step, steward: StewardHandle) -> bool:
    if steward.stale_at is None or steward.kill_at is not None:
        return False
    return max(steward.stale_at + STALE, step.state.judge_after) <= step.now


def forked(step: Step, message: StewardForked) -> None:
    steward = step.state.stewards.get(message.serial)
    if steward is None or steward.request is None:
        return
    steward.request, steward.pid = None, message.pid
    if steward.kill_at is not None:  # the end has begun meanwhile
        _signal(step, steward, SIGN_OFF)


def not_forked(step: Step, message: StewardNotForked) -> None:
    steward = step.state.stewards.get(message.serial)
    if steward is not None and steward.request is not None:
        del step.state.stewards[message.serial]
        _failed(step, steward, f"it cannot be forked: {message.reason}")


def exited(step: Step, message: StewardExited) -> None:
    """A steward has ended. For the newest, without a request to leave, it is a failure."""
    state = step.state
    steward = state.stewards.pop(message.serial, None)
    if steward is None:
        return
    newer = any(s.serial > steward.serial and s.ready for s in state.stewards.values())
    expected = newer or state.mode.leaving or steward.kill_at is not None
    if expected or (message.status == 0 and step.now - steward.asked >= _AT_ONCE):
        step.debug(f"{steward} exited")
        return
    _failed(step, steward, how_it_ended(message.status))


def _failed(step: Step, steward: StewardHandle, why: str) -> None:
    state = step.state
    if step.now - steward.asked > STEADY:
        state.steward_failures = 0
    state.steward_failures += 1
    delay = backoff(state.steward_failures)
    state.steward_not_before = step.now + delay
    again = f"; next try in {delay:g} s" if delay else ""
    step.warn(f"{steward} ended: {why}{again}", LogEvent.STEWARD_ENDED, reason=why)


def lost(step: Step, steward: StewardHandle, pid: int | None) -> None:
    """The fork server that was asked for it has ended. pid: if it was forked before."""
    steward.request, steward.pid = None, pid
    if pid is None:
        del step.state.stewards[steward.serial]


def adopt(step: Step, generation: int) -> None:
    """Their fork server is gone: they are the arbiter's children, until there is a newer one."""
    for steward in step.state.stewards.values():
        if steward.generation != generation or steward.adopted or steward.pid is None:
            continue
        steward.adopted = True
        if steward.kill_at is not None:
            _signal(step, steward, SIGKILL if steward.given_up else SIGN_OFF)


def give_up(step: Step) -> None:
    """Redis does not answer, so none can deregister: they are killed once they are adopted."""
    for steward in step.state.stewards.values():
        steward.given_up = True
        steward.stopped = steward.stopped or step.now
        steward.kill_at = step.now + END
        if steward.adopted:
            _signal(step, steward, SIGKILL)


def end(step: Step) -> bool:
    """Tell all stewards to leave; whether they have left, or take too long."""
    state = step.state
    for steward in state.stewards.values():
        if not steward.stopped:
            steward.stopped = step.now
            steward.kill_at = step.now + END
            _signal(step, steward, SIGN_OFF)
    patience = 2 * END
    return all(steward.stopped + patience <= step.now for steward in state.stewards.values())
