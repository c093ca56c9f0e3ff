"""How many jobs a minute the workers of this arbiter end, by queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from resqued.scoreboard import Scoreboard
from resqued.scoreboard.counts import Table, arbiter_table, slot_table

EVERY: Final = 10.0
"""Seconds between two readings of the counts."""

WINDOW: Final = 60.0
"""Seconds over which the rate is taken."""


class Rates:
    """The rates over the last minute, or since the steward has begun. Runs in the steward."""

    def __init__(self, board: Scoreboard) -> None:
        self._ended = EndedCounts(board)
        self._readings: deque[tuple[float, Mapping[str, int]]] = deque()
        self._now: dict[str, float] = {}

    def look(self, now: float) -> None:
        """Read the counts, if it is time. now: seconds, monotonic."""
        if self._readings and now < self._readings[-1][0] + EVERY:
            return
        self._readings.append((now, self._ended.read()))
        while len(self._readings) > 2 and self._readings[1][0] <= now - WINDOW:
            self._readings.popleft()
        (then, before), (_, after) = self._readings[0], self._readings[-1]
        minutes = (now - then) / 60
        if minutes:
            self._now = {
                queue: round(max(0, ended - before.get(queue, 0)) / minutes, 1)
                for queue, ended in after.items()
            }

    def of(self, queue: str) -> float | None:
        """Jobs a minute; None until it is known."""
        return self._now.get(queue, 0.0) if len(self._readings) > 1 else None


class EndedCounts:
    """Reads how many jobs have ended, by queue: the table of a slot only if its worker has ended
    one since."""

    def __init__(self, board: Scoreboard) -> None:
        self._board = board
        self._moves = -1
        self._done: dict[int, int] = {}  # by the workers, as on their records
        self._tables: dict[int, Table] = {}
        self._ended: dict[int, list[tuple[str, int]]] = {}
        self._sums: dict[str, int] = {}

    def read(self) -> dict[str, int]:
        """The sums over all slots."""
        board, arbiters = self._board, arbiter_table(self._board)
        if arbiters.moves != self._moves:
            self._moves = arbiters.moves
            self._done, self._tables, self._ended, self._sums = {}, {}, {}, {}
            for slot in board.counted():
                self._read(slot)
        before = self._done
        self._done = {slot: board.glance(slot)[2] for slot in board.used()}
        for slot, done in self._done.items():
            if done != before.get(slot, 0):
                self._read(slot)
        sums = dict(self._sums)
        for queue, ended in arbiters.ended():
            sums[queue] = sums.get(queue, 0) + ended
        return sums

    def _read(self, slot: int) -> None:
        table = self._tables.get(slot)
        if table is None:
            table = self._tables[slot] = slot_table(self._board, slot)
        before, after = self._ended.get(slot, ()), table.ended()
        if after == before:
            return
        self._ended[slot] = after
        sums = self._sums
        for queue, ended in after:
            sums[queue] = sums.get(queue, 0) + ended
        for queue, ended in before:
            sums[queue] -= ended
