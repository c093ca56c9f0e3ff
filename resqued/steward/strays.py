"""What workers have left behind in Redis: claims, executions and hands.

A stray is an entry of a worker of this arbiter that the worker does not have. A Redis server that
went back in time (to its last snapshot, or to a replica that lagged behind) has claims and
executions of jobs that are long over. Idle workers check their own entries; the steward checks the
rest. It needs two looks with a pause between them, because an entry may also be on its way between
a worker and Redis, or be under recovery just now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from resqued.broker.bad_data import abbreviate, log_once, text_of
from resqued.broker.hand import execution_of
from resqued.broker.owner import (
    CLAIMS,
    QUEUE,
    RUNNING,
    Owner,
    parse_running,
    split_claim,
    worker_key,
)
from resqued.linux import Life
from resqued.scoreboard import Phase, Record, Scoreboard
from resqued.steward.heartbeats import living

GONE_FOR: Final = 10.0
"""Seconds between the two looks, at least, when the worker is gone."""


@dataclass(frozen=True)
class Left:
    """A claim or an execution of a worker. execution_id: empty for a claim."""

    owner: Owner
    job_id: str
    execution_id: str
    queue: str


class Strays:
    """Finds the strays of one arbiter's workers. Runs in the steward.

    identity: the arbiter's. patience: seconds between the two looks, at least, when the worker
    lives; no message between it and Redis is under way for so long.
    """

    def __init__(self, board: Scoreboard, identity: str, patience: float) -> None:
        self._board = board
        self._identity = identity
        self._patience = patience
        self._since: dict[Left, float] = {}

    def clear(self) -> None:
        """Forget all looks, after a time without Redis or without CPU."""
        self._since.clear()

    def find(self, left: Iterable[Left], now: float) -> set[Left]:
        """Entries of this arbiter's workers that two looks have found to be strays. now: seconds,
        monotonic."""
        own = [each for each in left if each.owner.arbiter == self._identity]
        workers = living(self._board) if own else ()
        records = {(record.pid, record.ticks): record for _, record in workers}
        since: dict[Left, float] = {}
        found = set()
        for each in own:
            record = records.get((each.owner.pid, each.owner.ticks))
            if record is not None and _has(record, each):
                continue
            since[each] = self._since.get(each, now)
            gone = record is None and each.owner.life is Life.DEAD
            if now - since[each] >= (GONE_FOR if gone else self._patience):
                found.add(each)
        self._since = since
        return found


def _has(record: Record, left: Left) -> bool:
    """Whether a worker's record names the entry. An execution is in the record before it is in
    Redis."""
    if left.execution_id:
        return left.execution_id in (record.execution_id, record.token)
    return record.phase is Phase.TAKEN and (bool(record.overflow) or record.job_id == left.job_id)


def parse_claims(claims: dict[bytes, bytes]) -> Iterable[Left]:
    """The entries of CLAIMS. Those that are not readable are logged and left out."""
    for field, value in claims.items():
        job_id, queue_key = (part.decode(errors="backslashreplace") for part in split_claim(value))
        try:
            owner = Owner.parse(text_of(field) or "")
        except ValueError:
            pass_over(CLAIMS, field, value)
            continue
        yield Left(owner, job_id, "", queue_key.removeprefix(QUEUE))


def parse_executions(running: dict[bytes, bytes]) -> Iterable[Left]:
    """The entries of RUNNING. Those that are not readable are logged and left out."""
    for field, value in running.items():
        job_id, colon, execution_id = (text_of(field) or "").rpartition(":")
        try:
            if not colon:
                raise ValueError
            owner, queue = parse_running(value)
        except ValueError:
            pass_over(RUNNING, field, value)
            continue
        yield Left(owner, job_id, execution_id, queue)


def pass_over(key: str, field: bytes, value: bytes) -> None:
    """Log, once, an entry that was not written by resqued."""
    what = (
        f"{abbreviate(field)} of key={key} is not of resqued, and passed over: {abbreviate(value)}"
    )
    log_once(f"{key} {field!r}", what, "WARNING")


def find_unclaimed_hands(
    hands: Mapping[bytes, bytes],
    running: Mapping[bytes, bytes],
    registered: set[str],
    is_dead: Callable[[Owner], bool],
) -> tuple[list[bytes], set[str]]:
    """Fields of HANDS to delete, and the arbiters of the owners that may still live.

    A hand is deleted when its worker is dead and not registered in RQ, and its job, if it had one,
    was recovered by a release that does not know hands. running: RUNNING. registered: keys of
    workers.
    """
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
