"""The core as the rim sees it: events in, actions out, and the time of the next look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from resqued.core import (
    asked,
    commands,
    converge,
    events,
    forkservers,
    generations,
    losses,
    members,
    orders,
    recovering,
    stewards,
    stopping,
    wishes,
)
from resqued.core.actions import Action
from resqued.core.deadlines import next_deadline
from resqued.core.state import Generation, Reexec, Stage, State
from resqued.core.step import Step

SUSPEND_GRACE: Final = 10.0
"""Seconds after an overslept wait in which nobody is judged: everyone overslept with us."""

_DECISIONS: Final[dict[type[events.Event], Callable[[Step, Any], None]]] = {
    events.Signalled: wishes.signalled,
    events.Counted: wishes.counted,
    events.Planned: wishes.planned,
    events.ExecChecked: wishes.exec_checked,
    events.Started: generations.started,
    events.Greeted: generations.greeted,
    events.Loaded: generations.config_loaded,
    events.LoadFailed: generations.config_failed,
    events.AppReady: generations.app_ready,
    events.AppFailed: generations.app_failed,
    events.ForkServerGone: losses.fork_server_gone,
    events.WorkerForked: members.forked,
    events.WorkerNotForked: members.not_forked,
    events.WorkerGone: members.gone,
    events.Judged: orders.judged,
    events.RecoveryDone: recovering.done,
    events.StewardForked: stewards.forked,
    events.StewardGone: stewards.gone,
    events.Commanded: commands.commanded,
}


class Core:
    """Decides. Its state changes only in `step`; equal states and events give equal actions."""

    def __init__(self, state: State) -> None:
        self.state = state

    def begin(self, now: float) -> list[Action]:
        """The first generation, at a cold start."""
        step = Step(self.state, now)
        first = Generation(self.state.current, self.state.policy, self.state.plan)
        self.state.generations[first.number] = first
        forkservers.start(step, first)
        return step.actions

    def step(self, event: events.Event, now: float) -> list[Action]:
        """What is to be done because of `event`."""
        step = Step(self.state, now)
        asked.heard(self.state, event, now)
        if isinstance(event, events.Turn):
            _turn(step, event)
        elif isinstance(event, events.Resumed):
            _resumed(step)
        else:
            _DECISIONS[type(event)](step, event)
        return step.actions

    def next_deadline(self, now: float) -> float | None:
        """Seconds on the monotonic clock; None when only an event can change anything."""
        return next_deadline(self.state, now)


def _turn(step: Step, turn: events.Turn) -> None:
    """Check, then converge: the same for a start, a reload, a rest and a stop."""
    state = step.state
    if turn.overslept:
        state.judge_after = step.now + SUSPEND_GRACE
    for member in state.members():
        record = turn.records.get(member.slot)
        if record is not None and record is not member.seen:  # else there is nothing new
            members.observe(step, member, record)
        if turn.frozen or member.stopped_by is not None:
            members.notice_stopped(step, member, frozen=member.slot in turn.frozen)
    generations.check(step)
    for member in state.members():
        orders.check(step, member)
        if member.hard_at is not None:
            commands.check(step, member)
    converge.converge(step)
    stewards.keep(step, turn.vigil)
    stopping.check(step)
    recovering.place(step)
    if not state.mode.leaving:
        generations.retire(step)
        if state.reexec is Reexec.WANTED and state.booting is None and state.ever_ready:
            wishes.begin_reexec(step)


def _resumed(step: Step) -> None:
    """A new image of the arbiter: what its predecessor had begun goes on; then a reload."""
    state = step.state
    state.reexec, state.reload_wanted = Reexec.NONE, False
    state.reload_reason = "re-exec"
    for generation in state.generations.values():
        if generation.stage is Stage.STARTING and generation.pid is None:
            generation.stage = Stage.WAITING
    step.info("re-exec done")
    generations.request(step)
