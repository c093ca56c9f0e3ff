"""Enters the arbiter in the fleet: what `resquedctl fleet` shows of it on every host."""

from __future__ import annotations

import operator
import time
from collections import Counter
from typing import Any, Final

import redis

import resqued
from resqued import linux
from resqued.broker import fleet
from resqued.broker.fleet import FleetEntry
from resqued.config import Config
from resqued.scoreboard import Phase, Record, Scoreboard, Seen
from resqued.shares import limits_of
from resqued.steward.heartbeats import LATELY
from resqued.steward.registration import WorkerRegistrations

EVERY: Final = 5.0
"""Seconds between two entries."""

_MOST: Final = 1000
"""Queues that an entry names; of more only the number is told."""


class FleetMembership:
    """The entry of one arbiter. Runs in the steward. identity, arbiter: the arbiter's, and its
    pid. Methods raise redis errors."""

    def __init__(
        self,
        connection: redis.Redis,
        board: Scoreboard,
        config: Config,
        identity: str,
        arbiter: int,
        registration: WorkerRegistrations,
    ) -> None:
        self._connection = connection
        self._board = board
        self._config = config
        self._identity = identity
        self._arbiter = arbiter
        self._registration = registration
        self._seen: dict[int, Seen] = {}  # records, as of the last look
        self._queues: list[tuple[str, ...]] = []  # of each ready worker then
        self._served: Counter[str] = Counter()

    def enter(self) -> None:
        """Write the entry as the arbiter is now."""
        fleet.enter(self._connection, self._identity, self._entry())

    def leave(self) -> None:
        """Remove it: the arbiter leaves in order."""
        fleet.leave(self._connection, self._identity)

    def _entry(self) -> FleetEntry:
        summary: dict[str, Any] = self._board.summary.read()
        records = self._records()
        served = self._serving(records)
        named = dict(sorted(served.items())[:_MOST])
        return FleetEntry(
            host=linux.host_name(),
            pid=summary.get("pid", self._arbiter),
            version=resqued.__version__,
            generation=summary.get("generation") or 0,
            workers=summary.get("wished") or 0,
            ready=len(records),
            busy=sum(record.phase.holds_job for record in records),
            state=str(summary.get("state", "")),
            name=self._config.name,
            queues=named,
            more=len(served) - len(named),
            limits=limits_of(self._config.queues),
        )

    def _records(self) -> list[Record]:
        """Of the workers that are ready."""
        look, before = self._board.read_again, self._seen
        self._seen = {slot: look(slot, before.get(slot)) for slot in self._board.used()}
        now = time.monotonic()
        return [record for _, record in self._seen.values() if _is_ready(record, now)]

    def _serving(self, records: list[Record]) -> Counter[str]:
        """How many of them serve each queue; counted again only when something has changed."""
        queues = [self._registration.queues_of(record) for record in records]
        before = self._queues
        if len(queues) != len(before) or any(map(operator.is_not, queues, before)):
            self._queues, self._served = queues, Counter()
            for names in queues:
                self._served.update(names)
        return self._served


def _is_ready(record: Record, now: float) -> bool:
    return Phase.IDLE <= record.phase < Phase.LEAVING and (
        0 <= now - record.heartbeat < LATELY or linux.lives(record.pid, record.ticks)
    )
