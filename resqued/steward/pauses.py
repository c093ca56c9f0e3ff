"""Tells the workers of an arbiter which queues are paused, on the scoreboard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis

from resqued import logs
from resqued.broker.pauses import read_pauses
from resqued.logs import LogEvent
from resqued.printable import listed
from resqued.scoreboard import Scoreboard


class PausedQueues:
    """The paused queues, as of the last look. Runs in the steward. serial: the steward's."""

    def __init__(self, connection: redis.Redis, board: Scoreboard, serial: int) -> None:
        self._connection = connection
        self._board = board
        self._serial = serial
        self._written: dict[str, Any] | None = None
        self.names: frozenset[str] = frozenset()

    def look(self, guests: Mapping[str, list[str]]) -> frozenset[str]:
        """Read them, and put a change on the scoreboard; the queues that were resumed since the
        last look. guests: workers that do not obey limits, by queue; told too. Raises redis errors;
        then all stays as it was."""
        now = frozenset(read_pauses(self._connection))
        if self._board.steward_status().serial != self._serial:  # only the newest writes
            return frozenset()
        if self._written is None:  # as another steward has left it, or nobody has written yet
            self._written = self._board.paused.read()
            self.names = frozenset(self._written.get("queues", ()))
        told = {"queues": sorted(now), "guests": dict(guests)}
        if told != self._written:
            self._written = told
            self._board.paused.write(told)
        before, self.names = self.names, now
        self._log(before, now)
        return before - now

    @staticmethod
    def _log(before: frozenset[str], now: frozenset[str]) -> None:
        if now - before:
            names = sorted(now - before)
            logs.info(
                f"paused queues={listed(names)}: nothing is taken from them",
                LogEvent.QUEUES_PAUSED,
                queues=names,
            )
        if before - now:
            names = sorted(before - now)
            logs.info(f"resumed queues={listed(names)}", LogEvent.QUEUES_RESUMED, queues=names)
