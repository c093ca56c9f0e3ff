"""The hands of workers that nobody deregisters any more."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from resqued.broker.bad_data import text_of
from resqued.broker.hand import execution_of
from resqued.broker.owner import Owner, worker_key


def unclaimed(
    hands: Mapping[bytes, bytes],
    running: Mapping[bytes, bytes],
    registered: set[str],
    is_dead: Callable[[Owner], bool],
) -> tuple[list[bytes], set[str]]:
    """Fields of HANDS to be dropped: of dead workers that RQ does not know any more, and whose job,
    if there was one, has been recovered, by a release that knows no hands; and the arbiters of
    those that may live. running: RUNNING. registered: keys of workers. Runs in the steward."""
    executions = {text_of(key.rpartition(b":")[2]) for key in running}
    dropped, arbiters = [], set()
    for field, value in hands.items():
        try:
            owner = Owner.parse(text_of(field) or "")
        except ValueError:
            continue
        if worker_key(owner.name) in registered or execution_of(value) in executions:
            continue
        if is_dead(owner):
            dropped.append(field)
        else:
            arbiters.add(owner.arbiter)
    return dropped, arbiters
