"""The core's interface: events in, actions out, and the next deadline."""

from __future__ import annotations

from typing import Final, assert_never

from resqued import messages
from resqued.core import (
    commands,
    death_lines,
    duties,
    events,
    failed_actions,
    fork_server_exits,
    fork_servers,
    generations,
    judgement,
    reconcile,
    recoveries,
    reloads,
    shutdown,
    signals,
    stewards,
    verb_dispatch,
    verb_requests,
    worker_control,
    worker_exits,
    workers,
)
from resqued.core.actions import Action
from resqued.core.deadlines import next_deadline
from resqued.core.state import GenerationHandle, ReexecStage, Stage, State
from resqued.core.step import Step
from resqued.log_events import LogEvent

SUSPEND_GRACE: Final = 10.0
"""Seconds after an overslept wait in which nothing is judged late: all processes overslept."""


class Core:
    """The decisions. The state changes only in `step`; equal states and events give equal
    actions."""

    def __init__(self, state: State) -> None:
        self.state = state

    def begin(self, now: float) -> list[Action]:
        """The first generation, at a cold start."""
        step = Step(self.state, now)
        _start_first(step)
        return step.actions

    def step(self, event: events.Event, now: float) -> list[Action]:
        """The actions for an event."""
        step = Step(self.state, now)
        _decide(step, event)
        return step.actions

    def next_deadline(self, now: float) -> float | None:
        """Seconds on the monotonic clock; None when only an event can change anything."""
        return next_deadline(self.state, now)


def _decide(step: Step, event: events.Event) -> None:
    match event:
        case events.Turn():
            _turn(step, event)
        case events.Heard():
            _heard(step, event.generation, event.message)
        case events.Signalled():
            signals.signalled(step, event)
        case events.Asked():
            verb_dispatch.asked(step, event)
        case events.ActionFailed():
            failed_actions.failed(step, event)
        case events.Started():
            generations.started(step, event)
        case events.ForkServerGone():
            fork_server_exits.fork_server_gone(step, event)
        case events.ConfigLoaded():
            reloads.config_loaded(step, event)
        case events.Promoted():
            reloads.promoted(step, event)
        case events.Planned():
            signals.planned(step, event)
        case events.Counted():
            signals.counted(step, event)
        case events.Judged():
            judgement.judged(step, event)
        case events.ExecChecked():
            signals.exec_checked(step)
        case events.Resumed():
            _resumed(step)
        case _:
            assert_never(event)


def _heard(step: Step, number: int, message: messages.FromForkServer) -> None:
    """A message of the fork server of generation `number`: it is not hung."""
    generation = step.state.generations.get(number)
    if generation is not None:
        generation.heard = step.now
    match message:
        case messages.Hello():
            generations.greeted(step, generation)
        case messages.Calling():
            generations.calls(generation, message)
        case messages.Ready():
            generations.app_ready(step, generation)
        case messages.LoadFailed():
            generations.app_failed(step, generation, message)
        case messages.WorkerForked():
            workers.forked(step, message)
        case messages.WorkerNotForked() | messages.Vetoed():
            workers.not_forked(step, message)
        case messages.WorkerExited():
            worker_exits.exited(step, message)
        case messages.StewardForked():
            stewards.forked(step, message)
        case messages.StewardNotForked():
            stewards.not_forked(step, message)
        case messages.StewardExited():
            stewards.exited(step, message)
        case messages.Commanded():
            commands.commanded(step, message)
        case messages.Recovered():
            recoveries.recovered(step, message)
        case _:
            assert_never(message)


def _turn(step: Step, turn: events.Turn) -> None:
    """Check, then reconcile: the same for a start, a reload, a rest and a stop."""
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
        judgement.check(step, worker)
        if worker.hard_at is not None:
            commands.check(step, worker)
    reconcile.reconcile(step)
    stewards.keep(step, turn.steward)
    duties.keep(step)
    if state.verb_requests:
        verb_requests.check(step)
    shutdown.check(step)
    death_lines.overdue(step)
    recoveries.place(step)
    if not state.mode.leaving:
        generations.retire(step)
        if state.reexec is ReexecStage.WANTED and signals.is_settled(state):
            signals.begin_reexec(step)


def _start_first(step: Step) -> None:
    state = step.state
    first = GenerationHandle(state.current, state.policy, state.plan)
    state.generations[first.number] = first
    fork_servers.start(step, first)


def _resumed(step: Step) -> None:
    """The first step of a new image after a re-exec: go on, then reload.

    An image that had to be replaced (`arbiter.containment`) may be leaving, or wait for its first
    generation; then there is nothing to reload.
    """
    state = step.state
    state.reexec, state.reload_wanted = ReexecStage.NONE, False
    state.verb_requests.clear()  # who asked is gone
    state.reload_reason = "re-exec"
    for generation in state.generations.values():
        if generation.request is not None:  # its answer will not come any more
            generation.stage, generation.request = Stage.WAITING, None
    step.info("re-exec done", LogEvent.REEXEC_DONE)
    if state.mode.leaving:
        return
    if not state.generations:
        _start_first(step)
    elif state.ever_ready:
        reloads.request(step)
