"""What Redis says that our own workers hold, and they do not.

A server that went back in time, to its last snapshot or to a replica that lagged behind, knows
claims and executions that are long over: of workers that have left since, and of some that work
on. Nobody's death tells of them. A worker that has nothing to do looks for its own; the steward
sees to the others, and waits, so that it is not mistaken about what is on its way between a
worker and Redis, or what the arbiter is having recovered just now.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from resqued.broker.owner import Owner
from resqued.linux import Life
from resqued.scoreboard import Phase, Record, Scoreboard
from resqued.steward.heartbeats import living

GONE_FOR: Final = 10.0
"""Seconds between the two looks, at least, when the worker is gone."""


@dataclass(frozen=True)
class Left:
    """What a worker has left behind. execution_id: empty when it had not begun the job."""

    owner: Owner
    job_id: str
    execution_id: str
    queue: str


class Strays:
    """Of one arbiter. Runs in the steward.

    identity: the arbiter's. patience: seconds between the two looks, at least, when the worker
    lives: nothing is on its way to it, or from it, for so long.
    """

    def __init__(self, board: Scoreboard, identity: str, patience: float) -> None:
        self._board = board
        self._identity = identity
        self._patience = patience
        self._since: dict[Left, float] = {}

    def clear(self) -> None:
        """Forget all looks: there was a time in which nothing could be seen."""
        self._since.clear()

    def find(self, left: Iterable[Left], now: float) -> set[Left]:
        """Those of our workers that two looks have found to be strays. now: monotonic."""
        ours = [each for each in left if each.owner.arbiter == self._identity]
        workers = living(self._board) if ours else ()
        records = {(record.pid, record.ticks): record for _, record in workers}
        since: dict[Left, float] = {}
        found = set()
        for each in ours:
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
    """Whether it stands on the worker's record. An execution does before it is in Redis."""
    if left.execution_id:
        return left.execution_id in (record.execution_id, record.token)
    return record.phase is Phase.TAKEN and (bool(record.overflow) or record.job_id == left.job_id)
