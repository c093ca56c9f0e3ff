"""Enters the arbiter in the fleet: what `resquedctl fleet` shows of it on every host."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import redis

import resqued
from resqued import linux
from resqued.broker import fleet
from resqued.broker.fleet import FleetEntry
from resqued.config import Config
from resqued.scoreboard import Scoreboard
from resqued.shares import limits_of
from resqued.steward.heartbeats import living
from resqued.steward.registration import Registration

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
        registration: Registration,
    ) -> None:
        self._connection = connection
        self._board = board
        self._config = config
        self._identity = identity
        self._arbiter = arbiter
        self._registration = registration

    def enter(self) -> None:
        """Write the entry as the arbiter is now."""
        fleet.enter(self._connection, self._identity, self._entry())

    def leave(self) -> None:
        """Remove it: the arbiter leaves in order."""
        fleet.leave(self._connection, self._identity)

    def _entry(self) -> FleetEntry:
        summary: dict[str, Any] = self._board.summary.read()
        served: Counter[str] = Counter()
        ready = busy = 0
        for _, record in living(self._board):
            ready += 1
            busy += record.phase.holds_job
            served.update(self._registration.queues_of(record))
        named = dict(sorted(served.items())[:_MOST])
        return FleetEntry(
            host=linux.host_name(),
            pid=summary.get("pid", self._arbiter),
            version=resqued.__version__,
            generation=summary.get("generation") or 0,
            workers=summary.get("wished") or 0,
            ready=ready,
            busy=busy,
            state=str(summary.get("state", "")),
            name=self._config.name,
            queues=named,
            more=len(served) - len(named),
            limits=limits_of(self._config.queues),
        )
