"""Does what a plugin asks for, as the signal of the same meaning does, or refuses it."""

from __future__ import annotations

from typing import Final, assert_never

from resqued.core import signals, verb_requests, worker_control
from resqued.core.actions import Answer, AskPlan, LookAgain, ReopenLogs
from resqued.core.events import Asked
from resqued.core.state import Mode
from resqued.core.step import Step
from resqued.core.verbs import Verb, VerbRequest
from resqued.log_events import LogEvent
from resqued.scoreboard import StopCause

_AT_ONCE: Final = (Verb.LOOK_AGAIN, Verb.REOPEN_LOGS)


def asked(step: Step, event: Asked) -> None:
    """Accept the request, which `verb_requests` answers later, or refuse it now."""
    request = VerbRequest(event.ticket, event.verb, event.number)
    if event.verb not in _AT_ONCE:
        argument = f" {event.number}" if event.verb in (Verb.SCALE, Verb.RECYCLE) else ""
        number = event.number if event.verb is Verb.RECYCLE else None
        step.info(
            f"{event.verb}{argument}: asked for by {event.source}",
            LogEvent.REQUESTED,
            verb=str(event.verb),
            source=event.source,
            worker=number,
        )
    refused = _do(step, request)
    if refused:
        step.do(Answer(event.ticket, refused))
    elif event.verb in _AT_ONCE:
        step.do(Answer(event.ticket))
    else:
        step.state.verb_requests[event.ticket] = request


def _do(step: Step, request: VerbRequest) -> str:
    """Why it is refused, which is in the log then; empty if it is accepted."""
    verb = request.verb
    match verb:
        case Verb.RELOAD:
            return _reload(step, request)
        case Verb.REEXEC:
            return signals.reexec(step)
        case Verb.SCALE:
            return _scale(step, request)
        case Verb.DRAIN:
            return signals.drain(step)
        case Verb.STOP:
            return signals.stop_now(step)
        case Verb.REST:
            return signals.rest(step)
        case Verb.RESUME:
            return _resume(step)
        case Verb.RECYCLE:
            return _recycle(step, request)
        case Verb.REPLAN:
            return _replan(step)
        case Verb.LOOK_AGAIN:
            step.do(LookAgain())
        case Verb.REOPEN_LOGS:
            step.do(ReopenLogs())
        case _:
            assert_never(verb)
    return ""


def _reload(step: Step, request: VerbRequest) -> str:
    refused = signals.reload(step)
    if not step.state.reload_wanted:  # else it follows the check of a re-exec
        request.generation = step.state.numbers
    return refused


def _scale(step: Step, request: VerbRequest) -> str:
    """So many workers, also from rest."""
    state, count = step.state, request.number
    if state.mode.leaving:
        return _refused(step, f"no other count: {state.mode}")
    largest = signals.largest(step)
    if not 0 <= count <= largest.count:
        return _refused(step, f"{count} workers: at least 0 and at most {largest}")
    verb_requests.replaced(step, verb_requests.TARGET, "scale")
    if state.mode is Mode.RESTING:
        signals.end_rest(step)
    if count != state.target:
        step.do(AskPlan(count))
    return ""


def _resume(step: Step) -> str:
    """End a rest with the count that was in force before."""
    state = step.state
    if state.mode.leaving:
        return _refused(step, f"no resume: {state.mode}")
    if state.mode is Mode.RESTING:
        verb_requests.replaced(step, verb_requests.TARGET, "resume")
        state.mode = Mode.RUNNING
        step.info(
            f"the rest has ended: workers={signals.count_text(state.target, state.difference)}",
            LogEvent.REST_ENDED,
            workers=state.target,
        )
    return ""


def _recycle(step: Step, request: VerbRequest) -> str:
    """Have one worker finish its job and leave; its slot is filled again."""
    state, number = step.state, request.number
    if state.mode is not Mode.RUNNING:
        return _refused(step, f"no worker is replaced: {state.mode}")
    worker = state.slots[number].worker if number in state.slots else None
    if worker is None or number > state.target:
        return _refused(step, f"there is no worker {number} to be replaced")
    verb_requests.replaced(step, (Verb.RECYCLE,), "recycle", number=number)
    request.serial = worker.serial
    step.info(
        f"{worker} is to be replaced", LogEvent.WORKER_RECYCLED, **worker.fields(), reason="asked"
    )
    worker_control.tell_drain(step, worker, StopCause.RECYCLE)
    return ""


def _replan(step: Step) -> str:
    """Ask for the queues of all workers again; those whose queues change are replaced."""
    state = step.state
    if state.mode is not Mode.RUNNING:
        return _refused(step, f"no other plan: {state.mode}")
    verb_requests.replaced(step, (Verb.REPLAN,), "replan")
    step.do(AskPlan(state.target))
    return ""


def _refused(step: Step, why: str) -> str:
    step.info(why, LogEvent.REFUSED, reason=why)
    return why
