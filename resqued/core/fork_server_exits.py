"""Decides after the end of a fork server about its workers, its steward and its generation."""

from __future__ import annotations

from typing import Final, assert_never

from resqued.core import (
    fork_servers,
    generations,
    recoveries,
    reloads,
    requests,
    stewards,
    workers,
)
from resqued.core.events import ForkServerGone
from resqued.core.reconcile import KILLS, TRIES
from resqued.core.state import GenerationHandle, Recovery, Stage, StewardHandle, WorkerHandle
from resqued.core.step import Step
from resqued.death import how_it_ended
from resqued.log_events import LogEvent
from resqued.messages import TOLD_TO_LEAVE

SIGKILL: Final = 9


def fork_server_gone(step: Step, event: ForkServerGone) -> None:
    """Fail its open requests, and adopt its children."""
    number = event.generation
    for holder in requests.asked_of(step.state, number):
        match holder:
            case WorkerHandle():
                workers.lost(step, holder, event.workers.get(holder.slot))
            case StewardHandle():
                stewards.lost(step, holder, event.stewards.get(holder.serial))
            case Recovery():
                recoveries.lost(holder)
            case _:
                assert_never(holder)
    workers.adopt(step, number)
    stewards.adopt(step, number)
    generation = step.state.generations.get(number)
    if generation is not None:
        _succeed(step, generation, event.status)


def _succeed(step: Step, generation: GenerationHandle, status: int) -> None:
    """Start another fork server, fail the generation, or end it."""
    state, number = step.state, generation.number
    stage, generation.stage, generation.pid = generation.stage, Stage.WAITING, None
    calling, generation.calling = generation.calling, ""
    # With 0 it was told to leave, unless a plugin or the application has ended it.
    told = status == TOLD_TO_LEAVE << 8 or (status == 0 and not calling)
    left = generation.left or told
    generation.left = False
    if stage in (Stage.RETIRING, Stage.DISCARDED):
        del state.generations[number]
        return
    fork_servers.forget_failures(step, generation)
    how = how_it_ended(status) + (f", during {calling}" if calling else "")
    if number == state.booting:
        step.error(
            f"gen={number} fork server ended while it booted: {how}",
            LogEvent.FORK_SERVER_ENDED,
            gen=number,
            reason=how,
        )
        reloads.fail(step, generation, f"its fork server ended while it booted: {how}")
    elif number != state.current:
        step.warn(
            f"gen={number} fork server ended: {how}; its workers finish and leave",
            LogEvent.FORK_SERVER_ENDED,
            gen=number,
            reason=how,
        )
        del state.generations[number]
    elif left and (stage is Stage.READY or not generation.failures):
        step.warn(
            f"gen={number} fork server was told to leave, and not by the arbiter;"
            " its workers finish and are replaced",
            LogEvent.FORK_SERVER_ENDED,
            gen=number,
            reason="told to leave, and not by the arbiter",
        )
        fork_servers.put_off(step, generation)
    elif generations.is_hopeless(state, generation) and stage is not Stage.READY:
        _ended_while_it_loaded(step, generation, status, how)
    elif generations.is_hopeless(state, generation) and not _may_start_again(generation, status):
        reason = f"fork server has ended {generation.failures + 1} times before a worker was ready"
        step.error(
            f"gen={number} {reason}: {how}", LogEvent.FORK_SERVER_ENDED, gen=number, reason=how
        )
        del state.generations[number]
        generations.give_up_start(step, generation, 70, f"{reason}: {how}")
    else:
        step.error(
            f"gen={number} fork server ended: {how}; its workers finish and are replaced",
            LogEvent.FORK_SERVER_ENDED,
            gen=number,
            reason=how,
        )
        fork_servers.put_off(step, generation)


def _may_start_again(generation: GenerationHandle, status: int) -> bool:
    """Before a worker was ever ready: whether another fork server may be started."""
    return generation.failures + 1 < (KILLS if status & 0x7F == SIGKILL else TRIES)


def _ended_while_it_loaded(step: Step, generation: GenerationHandle, status: int, how: str) -> None:
    """At the first start: try again if it was killed, by a user or for lack of memory."""
    number = generation.number
    step.error(
        f"gen={number} fork server ended while it loaded: {how}",
        LogEvent.FORK_SERVER_ENDED,
        gen=number,
        reason=how,
    )
    signum = status & 0x7F
    if signum and _may_start_again(generation, status):
        fork_servers.put_off(step, generation)
        return
    del step.state.generations[number]
    code = 70 if signum == SIGKILL else 78
    generations.give_up_start(step, generation, code, f"fork server ended while it loaded: {how}")
