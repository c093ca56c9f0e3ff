"""A reload: the configuration read, its generation proved by a trial worker, put in service."""

from __future__ import annotations

from typing import Final

from resqued.core import fork_servers, verb_requests
from resqued.core.actions import (
    AskPlan,
    DiscardConfig,
    LoadConfig,
    Promote,
    TellGenerationFailed,
    TellReady,
)
from resqued.core.events import ConfigLoaded, Promoted
from resqued.core.state import GenerationHandle, Mode, Stage
from resqued.core.step import Step
from resqued.core.verbs import Verb
from resqued.log_events import LogEvent

_TOLD: Final = 16_000
"""Characters of a traceback's end that an answer has room for."""


def request(step: Step) -> None:
    """Begin a reload: read the configuration first; nothing is touched until it is valid."""
    step.state.numbers += 1
    resting = step.state.mode is Mode.RESTING
    verb_requests.reload_begins(step, step.state.numbers)
    step.do(LoadConfig(step.state.numbers, 0 if resting else step.state.difference))


def config_loaded(step: Step, event: ConfigLoaded) -> None:
    """The new configuration is valid: start its generation, in place of one that still boots."""
    state = step.state
    if state.mode.leaving:
        step.do(DiscardConfig(event.generation))
        return
    verb_requests.reload_replaced(step, event.generation)
    if state.booting is not None:
        step.info(
            f"gen={state.booting} is replaced by a newer reload",
            LogEvent.RELOAD_REPLACED,
            gen=state.booting,
        )
        fork_servers.discard(step, state.booting)
    step.info(
        f"gen={event.generation} reload: booting; gen={state.current} stays in service",
        LogEvent.RELOAD_STARTED,
        gen=event.generation,
    )
    generation = GenerationHandle(event.generation, event.policy, event.plan)
    state.generations[event.generation] = generation
    state.booting = event.generation
    state.last_reload = f"generation {event.generation}: booting"
    state.last_reload_at = step.now
    fork_servers.start(step, generation)


def config_failed(step: Step, number: int, reason: str) -> None:
    """The old generation and its configuration stay, and so does one that still boots."""
    step.do(TellGenerationFailed(number, None, reason))
    _reload_failed(step, number, reason)


def fail(
    step: Step,
    generation: GenerationHandle,
    reason: str,
    *,
    leaves: bool = False,
    traceback: str = "",
) -> None:
    """End a reload; the generation in service stays. leaves: as for `fork_servers.discard`.
    traceback: for who has asked for the reload; the log has it."""
    tell_failed(step, generation, reason)
    fork_servers.discard(step, generation.number, leaves=leaves)
    _reload_failed(step, generation.number, reason, traceback)


def _reload_failed(step: Step, number: int, reason: str, traceback: str = "") -> None:
    state = step.state
    state.last_reload = f"generation {number}: failed: {reason}"
    state.last_reload_at = step.now
    step.error(
        f"reload failed, gen={state.current} stays in service: {reason}",
        LogEvent.RELOAD_FAILED,
        gen=number,
        reason=reason,
    )
    told = f"{reason}\n{traceback[-_TOLD:]}" if traceback else reason
    verb_requests.settle(step, (Verb.RELOAD,), told, generation=number)
    step.do(TellReady("reload", reason))


def tell_failed(step: Step, generation: GenerationHandle, reason: str) -> None:
    """Before its configuration is discarded."""
    step.do(TellGenerationFailed(generation.number, generation.pid, reason))


def promote(step: Step, generation: GenerationHandle) -> None:
    """The new generation is in service; the reconciliation replaces the workers of the old one."""
    state = step.state
    old = state.current
    generation.stage = Stage.READY
    generation.proven = True
    generation.deadline = None
    state.current, state.booting = generation.number, None
    wanted = _adopt_policy(step, generation)
    state.last_reload = f"generation {generation.number}: done"
    state.last_reload_at = step.now
    step.info(
        f"gen={generation.number} in service; workers of gen={old} finish and leave",
        LogEvent.RELOAD_DONE,
        gen=generation.number,
    )
    step.do(Promote(generation.number, state.reload_reason, wanted))


def promoted(step: Step, event: Promoted) -> None:
    """Ask the new plugins for a plan, if the target has changed, and call `arbiter_ready`."""
    if event.count != step.state.target:  # TTIN or TTOU came while it booted
        step.do(AskPlan(event.count))
    verb_requests.settle(step, (Verb.RELOAD,), generation=step.state.current)
    step.do(TellReady(event.reason))
    step.state.reload_reason = "reload"


def _adopt_policy(step: Step, generation: GenerationHandle) -> int:
    """Put its plan and count in force. Returns the target after the reload."""
    state = step.state
    if state.mode is Mode.RESTING:  # HUP ends a rest with the configured count
        state.mode, state.difference = Mode.RUNNING, 0
    state.policy, state.plan = generation.policy, generation.plan
    wanted = max(0, state.policy.workers + state.difference)
    state.difference = state.plan.count - state.policy.workers
    for slot in state.slots.values():
        slot.failures, slot.not_before = 0, 0.0  # the code is new
    return wanted
