"""A fork server has ended unasked: what becomes of its workers, its generation, its steward."""

from __future__ import annotations

from typing import Final

from resqued.core import fork_servers, generations, shutdown, stewards, workers
from resqued.core.events import ForkServerGone, how_it_ended
from resqued.core.reconcile import KILLS, TRIES
from resqued.core.state import Generation, Stage
from resqued.core.step import Step

SIGKILL: Final = 9


def fork_server_gone(step: Step, event: ForkServerGone) -> None:
    """Its workers are ours now. One in service gets a successor of the same generation."""
    state = step.state
    number = event.generation
    generation = state.generations.get(number)
    workers.adopt(step, number, event.found)
    stewards.adopt(step, number, event.stewards)
    for recovery in state.recoveries.values():
        if recovery.generation == number:
            recovery.generation, recovery.asked = None, 0.0
    if generation is not None:
        _succeed(step, generation, event.status)


def _succeed(step: Step, generation: Generation, status: int) -> None:
    """What becomes of the generation itself."""
    state, number = step.state, generation.number
    stage, generation.stage, generation.pid = generation.stage, Stage.WAITING, None
    left = generation.left or status == 0  # else it ends with 0 only when we retire it
    generation.left = False
    if stage in (Stage.RETIRING, Stage.DISCARDED):
        del state.generations[number]
        return
    how = how_it_ended(status)
    if number == state.booting:
        step.error(f"gen={number} fork server ended while it booted: {how}")
        generations.fail(step, generation, f"its fork server ended while it booted: {how}")
    elif number != state.current:
        step.warn(f"gen={number} fork server ended: {how}; its workers finish and leave")
        del state.generations[number]
    elif left and (stage is Stage.READY or not generation.failures):
        step.warn(
            f"gen={number} fork server was told to leave, and not by us;"
            " its workers finish and are replaced"
        )
        fork_servers.put_off(step, generation)
    elif generations.is_hopeless(state, generation) and stage is not Stage.READY:
        _ended_while_it_loaded(step, generation, status)
    else:
        step.error(f"gen={number} fork server ended: {how}; its workers finish and are replaced")
        fork_servers.put_off(step, generation)


def _ended_while_it_loaded(step: Step, generation: Generation, status: int) -> None:
    """At the first start. What was killed, from outside or for want of memory, is tried again."""
    number, how = generation.number, how_it_ended(status)
    step.error(f"gen={number} fork server ended while it loaded: {how}")
    signum = status & 0x7F
    if signum and generation.failures + 1 < (KILLS if signum == SIGKILL else TRIES):
        fork_servers.put_off(step, generation)
        return
    del step.state.generations[number]
    code = 70 if signum == SIGKILL else 78
    shutdown.give_up(step, code, f"gen={number} fork server ended while it loaded: {how}")
