"""Tells the workers of an arbiter which queues are paused, on the scoreboard."""

from __future__ import annotations

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
        self._written = False
        self.names: frozenset[str] = frozenset()

    def look(self) -> frozenset[str]:
        """Read them, and put a change on the scoreboard; the queues that were resumed since the
        last look. Raises redis errors; then all stays as it was."""
        before, now = self.names, frozenset(read_pauses(self._connection))
        if self._board.steward_status().serial != self._serial:  # only the newest writes
            return frozenset()
        if not self._written:  # as another steward has left it, or nobody has written yet
            self._written = True
            told = self._board.paused.read().get("queues")
            before = frozenset(told) if isinstance(told, list) else frozenset()
            if told is None or before != now:
                self._write(now)
        elif before != now:
            self._write(now)
        self.names = now
        self._log(before, now)
        return before - now

    def _write(self, names: frozenset[str]) -> None:
        self._board.paused.write({"queues": sorted(names)})

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
