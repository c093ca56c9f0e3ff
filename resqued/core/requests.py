"""Open requests: fork servers, workers, stewards and recoveries that are not answered yet.

An open request has no time limit of its own. It ends by an answer, which may be a failure, or by
the end of the fork server, which fails all requests to it. A fork server that sends nothing for too
long while a request is open is killed, so that each request ends.
"""

from __future__ import annotations

from typing import Final

from resqued.core.state import GenerationHandle, Recovery, Stage, State, StewardHandle, WorkerHandle

RECOVERY: Final = 310.0
"""Seconds in which one of the recoveries of a fork server must end: it kills those that take longer
than `resqued.forkserver.recoveries.LIMIT`, and reports it."""

_ABLE: Final = (Stage.PROVING, Stage.READY, Stage.RETIRING)

OfForkServer = WorkerHandle | StewardHandle | Recovery
"""Requests to a fork server."""


def asked_of(state: State, generation: int) -> list[OfForkServer]:
    """What the fork server of this generation has not answered."""
    holders: list[OfForkServer] = [
        *state.workers(),
        *state.stewards.values(),
        *state.recoveries.values(),
    ]
    return [each for each in holders if each.request and each.request.generation == generation]


def hung_at(state: State, generation: GenerationHandle) -> float | None:
    """When its fork server is treated as hung if it sends nothing; None without an open request."""
    if generation.pid is None or generation.stage not in _ABLE:
        return None
    return min(
        (_limit(holder, generation) for holder in asked_of(state, generation.number)), default=None
    )


def _limit(holder: OfForkServer, generation: GenerationHandle) -> float:
    assert holder.request is not None
    since = max(holder.request.at, generation.heard)
    work = RECOVERY if isinstance(holder, Recovery) else 0.0
    return since + work + generation.policy.boot_timeout
