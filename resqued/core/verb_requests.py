"""Open requests of plugins for verbs: when they are done, refused, or replaced by newer ones."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, assert_never

from resqued.core.actions import Answer
from resqued.core.state import Mode, State
from resqued.core.step import Step
from resqued.core.verbs import Verb, VerbRequest
from resqued.log_events import LogEvent
from resqued.scoreboard import Stop

TARGET: Final = (Verb.SCALE, Verb.REST, Verb.RESUME)
"""Verbs that set the target: each replaces the others, and so do TTIN, TTOU and WINCH."""

_STAYING: Final = (Verb.DRAIN, Verb.STOP)


def settle(
    step: Step,
    verbs: Collection[Verb],
    refused: str | None = None,
    *,
    generation: int = 0,
    number: int = 0,
) -> None:
    """End the open requests for these verbs. refused: why; None: they are done. generation, number:
    only those for it."""
    for request in list(step.state.verb_requests.values()):
        if (
            request.verb in verbs
            and generation in (0, request.generation)
            and number in (0, request.number)
        ):
            _end(step, request, refused)


def replaced(step: Step, verbs: Collection[Verb], newer: str, *, number: int = 0) -> None:
    """Refuse the open requests for these verbs: a newer request, a signal or a plugin's answer
    decides."""
    settle(step, verbs, f"replaced by a newer request: {newer}", number=number)


def reload_begins(step: Step, generation: int) -> None:
    """The requests for a reload that wait for it are for this generation."""
    for request in step.state.verb_requests.values():
        if request.verb is Verb.RELOAD and not request.generation:
            request.generation = generation


def reload_replaced(step: Step, newer: int) -> None:
    """Refuse the reloads to generations before this one."""
    for request in list(step.state.verb_requests.values()):
        if request.verb is Verb.RELOAD and 0 < request.generation < newer:
            _end(step, request, f"replaced by a newer reload, generation {newer}")


def check(step: Step) -> None:
    """Answer the requests whose end can be seen in the state. Called in each turn, last."""
    state = step.state
    for request in list(state.verb_requests.values()):
        if state.mode.leaving and request.verb not in _STAYING:
            _end(step, request, f"no longer possible: {state.mode}")
        elif _is_done(state, request):
            _end(step, request, None)
        elif request.verb is Verb.SCALE and state.target != request.number:
            _end(step, request, f"the target is {state.target} workers since a reload")
        elif request.verb is Verb.REPLAN and state.mode is Mode.RESTING:
            _end(step, request, "the workers are told to leave: resting")
        elif request.verb is Verb.REST and state.mode is Mode.RUNNING:
            _end(step, request, "a reload has ended the rest")
        elif request.verb is Verb.RECYCLE and request.number > state.target:
            _end(step, request, f"there is no worker {request.number} any more")


def _is_done(state: State, request: VerbRequest) -> bool:
    match request.verb:
        case Verb.SCALE:
            return state.target == request.number and _are_ready(state)
        case Verb.RESUME:
            return _are_ready(state)
        case Verb.REPLAN:
            return request.planned and _are_ready(state)
        case Verb.RECYCLE:
            worker = state.slot(request.number).worker
            return worker is not None and worker.serial > request.serial and worker.ready
        case Verb.REST:
            return state.mode is Mode.RESTING and not state.workers()
        case Verb.DRAIN | Verb.STOP:
            return not state.workers()
        case Verb.RELOAD | Verb.REEXEC | Verb.LOOK_AGAIN | Verb.REOPEN_LOGS:
            return False  # answered where it happens
        case _:
            assert_never(request.verb)


def _are_ready(state: State) -> bool:
    """Whether each worker of the target is ready, with the queues of the plan."""
    if state.mode is not Mode.RUNNING or state.plan.count != state.target:
        return False
    return all(_is_filled(state, number) for number in range(1, state.target + 1))


def _is_filled(state: State, number: int) -> bool:
    slot = state.slot(number)
    worker = slot.worker
    if worker is None:
        return slot.finished  # a burst's
    stays = worker.ready and worker.stop is Stop.NONE
    return stays and worker.queues == state.plan.of(number)


def _end(step: Step, request: VerbRequest, refused: str | None) -> None:
    del step.state.verb_requests[request.ticket]
    if refused is not None:
        reason = refused.partition("\n")[0]  # the traceback of a reload is in the log
        step.info(
            f"{request.verb}: refused: {reason}",
            LogEvent.REFUSED,
            verb=str(request.verb),
            reason=reason,
        )
    step.do(Answer(request.ticket, refused))
