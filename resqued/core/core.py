"""The core as the rim sees it: events in, actions out, and the time of the next look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from resqued.core import (
    commands,
    events,
    fork_server_exits,
    fork_servers,
    generations,
    reconcile,
    recoveries,
    requests,
    shutdown,
    signals,
    stewards,
    worker_control,
    workers,
)
from resqued.core.actions import Action
from resqued.core.deadlines import next_deadline
from resqued.core.state import Generation, Reexec, Stage, State
from resqued.core.step import Step

SUSPEND_GRACE: Final = 10.0
"""Seconds after an overslept wait in which nobody is judged: everyone overslept with us."""

_DECISIONS: Final[dict[type[events.Event], Callable[[Step, Any], None]]] = {
    events.Signalled: signals.signalled,
    events.Counted: signals.counted,
    events.Planned: signals.planned,
    events.ExecChecked: signals.exec_checked,
    events.Started: generations.started,
    events.Greeted: generations.greeted,
    events.Loaded: generations.config_loaded,
    events.LoadFailed: generations.config_failed,
    events.AppReady: generations.app_ready,
    events.AppFailed: generations.app_failed,
    events.ForkServerGone: fork_server_exits.fork_server_gone,
    events.WorkerForked: workers.forked,
    events.WorkerNotForked: workers.not_forked,
    events.WorkerGone: workers.gone,
    events.Judged: worker_control.judged,
    events.RecoveryDone: recoveries.done,
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
        fork_servers.start(step, first)
        return step.actions

    def step(self, event: events.Event, now: float) -> list[Action]:
        """What is to be done because of `event`."""
        step = Step(self.state, now)
        requests.heard(self.state, event, now)
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
    for worker in state.workers():
        record = turn.records.get(worker.slot)
        if record is not None and record is not worker.seen:  # else there is nothing new
            workers.observe(step, worker, record)
        if turn.frozen or worker.stopped_by is not None:
            workers.notice_stopped(step, worker, frozen=worker.slot in turn.frozen)
    generations.check(step)
    for worker in state.workers():
        worker_control.check(step, worker)
        if worker.hard_at is not None:
            commands.check(step, worker)
    reconcile.converge(step)
    stewards.keep(step, turn.steward)
    shutdown.check(step)
    recoveries.place(step)
    if not state.mode.leaving:
        generations.retire(step)
        if state.reexec is Reexec.WANTED and state.booting is None and state.ever_ready:
            signals.begin_reexec(step)


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
