"""What a fork server was asked for and has not answered: workers, stewards, recoveries.

What is in flight has no time limit of its own. It ends by an answer, of which a failure is one, or
by the end of its fork server, which is the answer to all that was open. A fork server that says
nothing for too long while something is open is killed; so one of the two comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from resqued.core import events
from resqued.core.state import Generation, Stage, State

RECOVERY: Final = 310.0
"""Seconds in which one of the recoveries that a fork server is at must end: it kills those that
take longer than `resqued.forkserver.recoveries.LIMIT`, and tells of it."""

_ABLE: Final = (Stage.PROVING, Stage.READY, Stage.RETIRING)


def heard(state: State, event: events.Event, now: float) -> None:
    """A fork server has said something: it is not hung."""
    number = _speaker(state, event)
    generation = state.generations.get(number) if number is not None else None
    if generation is not None:
        generation.heard = now


def hung_at(state: State, generation: Generation) -> float | None:
    """When its fork server counts as hung if it says nothing; None if it owes no answer."""
    if generation.pid is None or generation.stage not in _ABLE:
        return None
    return min(_ends(state, generation), default=None)


def _ends(state: State, generation: Generation) -> Iterator[float]:
    number, timeout = generation.number, generation.policy.boot_timeout
    for worker in state.workers():
        if worker.generation == number and worker.pid is None:
            yield max(worker.asked, generation.heard) + timeout
    for steward in state.stewards.values():
        if steward.generation == number and steward.pid is None:
            yield max(steward.asked, generation.heard) + timeout
    for recovery in state.recoveries.values():
        if recovery.generation == number:
            yield max(recovery.asked, generation.heard) + RECOVERY + timeout


def _speaker(state: State, event: events.Event) -> int | None:
    """The generation whose fork server has sent this."""
    match event:
        case events.WorkerForked() | events.WorkerNotForked() | events.WorkerGone():
            return event.generation
        case events.StewardForked() | events.StewardGone():
            steward = state.stewards.get(event.serial)
            return steward.generation if steward is not None else None
        case events.RecoveryDone():
            recovery = state.recoveries.get(event.name)
            return recovery.generation if recovery is not None else None
    return None
