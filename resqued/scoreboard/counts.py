"""How many jobs were started and ended, by queue, and how long they waited and ran.

Each slot has a table of counts, and the arbiter has one. A table has a block for each of its first
queues, and one for all others. A slot's table outlives its workers: each goes on where the one
before it was, however that ended. So the totals, which are the sum of all tables, never fall. When
a slot's table is full, the arbiter moves it to its own, between two workers.

A count is one aligned word of memory, written by one instruction, without a system call. So a
worker that is killed in the middle leaves no count half written.
"""

from __future__ import annotations

import struct
import sys
import time
from bisect import bisect_left
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from resqued.scoreboard.record import Phase, Record
from resqued.snapshots import QueueCounts

if TYPE_CHECKING:
    from resqued.scoreboard.board import Scoreboard

Counts = QueueCounts
"""The counts of one queue; see `resqued.QueueCounts`."""

BOUNDS: Final = Counts.bounds
"""The upper bounds of a histogram's buckets, in seconds; a bucket includes its bound."""

OUTCOMES: Final = ("finished", "failed", "retried", "stopped", "interrupted")
"""The outcomes that are counted, named as `resqued.Outcome` names them."""

OTHER: Final = ""
"""The name under which the queues are counted that have no block of their own."""

SLOT_QUEUES: Final = 16
"""Queues that have a block of their own in a slot's table."""

ARBITER_QUEUES: Final = 1000
"""Queues that have a block of their own in the arbiter's table."""

BLOCK: Final = 1024
"""Bytes of a block: the counts, then the queue's name."""

SLOT_SIZE: Final = 20 * 1024
"""Bytes of a slot's table, in whole pages."""

ARBITER_SIZE: Final = BLOCK * (ARBITER_QUEUES + 8)
"""Bytes of the arbiter's table."""

_OUTCOME_AT: Final = {outcome: number for number, outcome in enumerate(OUTCOMES, 1)}
_WAITS_AT: Final = 1 + len(OUTCOMES)
_RUNS_AT: Final = _WAITS_AT + len(BOUNDS)
_WAIT_SUM_AT: Final = _RUNS_AT + len(BOUNDS)
_RUN_SUM_AT: Final = _WAIT_SUM_AT + 1
_COUNTS: Final = struct.Struct(f"={_RUN_SUM_AT + 1}Q")
_MOVES_AT: Final = 62  # in the first block of the arbiter's table: odd while a table is moved
_USED_AT: Final = 63  # in a table's first block: how many blocks are in use
_NAME: Final = slice(512, 768)
_LONGEST_NAME: Final = 255
_BLOCK_WORDS: Final = BLOCK >> 3
_MICROSECONDS: Final = 1e6
_ATTEMPTS: Final = 100  # at a sum during which no table is moved
_LARGE: Final = int.from_bytes(struct.pack("=Q", 0xF << 60) * (_RUN_SUM_AT + 1), sys.byteorder)
"""Bits that no count has set: job code has written over a block that has one."""


class Table:
    """One table. at: where it begins in the scoreboard, a multiple of 8. queues: that have a block
    of their own; one for the others follows."""

    def __init__(self, board: Scoreboard, at: int, queues: int) -> None:
        self._board = board
        self._at = at
        self._queues = queues
        self._places: dict[str, int] = {}  # the first word of a queue's block
        self._names: list[str] = []

    # For its one writer: the worker in the slot, or the arbiter.

    def start(self, queue: str, waited: float | None) -> None:
        """Count a job that begins. waited: seconds; None if that is not known. Never raises."""
        words, at = self._board.words, self._place(queue)
        try:
            words[at] += 1
            if waited is not None:
                words[at + _WAITS_AT + bisect_left(BOUNDS, waited)] += 1
                words[at + _WAIT_SUM_AT] += max(int(waited * _MICROSECONDS), 0)
        except ValueError:  # job code has written over it: a count has no room for one more
            self._clear(at)

    def end(self, queue: str, outcome: str, ran: float | None) -> None:
        """Count a job that has ended. outcome: what is not of OUTCOMES is not counted. ran:
        seconds; None if that is not known. Never raises."""
        number = _OUTCOME_AT.get(outcome)
        if number is None:
            return
        words, at = self._board.words, self._place(queue)
        try:
            words[at + number] += 1
            if ran is not None:
                words[at + _RUNS_AT + bisect_left(BOUNDS, ran)] += 1
                words[at + _RUN_SUM_AT] += max(int(ran * _MICROSECONDS), 0)
        except ValueError:
            self._clear(at)

    def add(self, queue: str, counts: int) -> None:
        """Add counts of another table, as `blocks` has them."""
        words, at = self._board.words, self._place(queue)
        for number, count in enumerate(_COUNTS.unpack(_raw(counts))):
            if count:
                words[at + number] = min(words[at + number] + count, 2**60 - 1)

    def _place(self, queue: str) -> int:
        """The first word of a queue's block; it gets one if there is room."""
        place = self._places.get(queue)
        if place is None:
            if len(self._places) > 10 * self._queues:  # names that are never seen again
                self._places.clear()
            place = self._places[queue] = self._find(queue)
        return place

    def _find(self, queue: str) -> int:
        board, name = self._board, queue.encode(errors="replace")[:_LONGEST_NAME]
        used = self.used
        for number in range(min(used, self._queues)):
            at = self._at + number * BLOCK
            if board.bytes_at(at + _NAME.start, _NAME.stop - _NAME.start).rstrip(b"\0") == name:
                return at >> 3
        number = min(used, self._queues) if name else self._queues
        if number < self._queues:
            board.put_bytes(self._at + number * BLOCK + _NAME.start, name.ljust(256, b"\0"))
        board.words[(self._at >> 3) + _USED_AT] = max(used, number + 1)
        return (self._at + number * BLOCK) >> 3

    def _clear(self, place: int) -> None:
        self._board.put_bytes(place << 3, bytes(_COUNTS.size))

    def clear(self) -> None:
        """Forget all counts and names."""
        self._places.clear()
        for number in range(self.used):
            self._board.put_bytes(self._at + number * BLOCK, bytes(BLOCK))

    # For any reader.

    @property
    def used(self) -> int:
        """Blocks in use; the one for other queues only if all are."""
        used = self._board.words[(self._at >> 3) + _USED_AT]
        return used if used <= self._queues + 1 else 0

    @property
    def is_full(self) -> bool:
        """Whether no further queue gets a block of its own."""
        return self.used >= self._queues

    @property
    def names(self) -> list[str]:
        """The queues of the blocks in use. Read once: after a move another object is needed."""
        used = self.used
        if len(self._names) != used:
            self._names = [self._name(number) for number in range(used)]
        return self._names

    def blocks(self) -> Iterator[tuple[str, int]]:
        """Queues and their counts, packed into one number: a sum of such numbers is that of the
        counts."""
        at, size, board = self._at, _COUNTS.size, self._board
        for name in self.names:
            counts = int.from_bytes(board.bytes_at(at, size), sys.byteorder)
            if counts and not counts & _LARGE:
                yield name, counts
            at += BLOCK

    def ended(self) -> list[tuple[str, int]]:
        """Queues, and how many of their jobs have ended."""
        words, names, first = self._board.words, self.names, (self._at >> 3) + 1
        places = range(first, first + len(names) * _BLOCK_WORDS, _BLOCK_WORDS)
        ended = [sum(words[at : at + len(OUTCOMES)]) for at in places]
        return list(zip(names, ended, strict=True))

    def _name(self, number: int) -> str:
        if number >= self._queues:
            return OTHER
        at = self._at + number * BLOCK + _NAME.start
        raw = self._board.bytes_at(at, _NAME.stop - _NAME.start)
        return raw.rstrip(b"\0").decode(errors="replace")


class ArbiterTable(Table):
    """The arbiter's table: counts of full tables, and of jobs that a recovery has ended."""

    @property
    def moves(self) -> int:
        """A number that changes with each `take`, and is odd during it."""
        return self._board.words[(self._at >> 3) + _MOVES_AT]

    def take(self, table: Table) -> None:
        """Move the counts of a slot's table here. Its slot has no worker."""
        words, at, moves = self._board.words, (self._at >> 3) + _MOVES_AT, self.moves | 1
        words[at] = moves
        for queue, counts in list(table.blocks()):
            self.add(queue, counts)
        table.clear()
        words[at] = (moves + 1) % 2**64


def _raw(counts: int) -> bytes:
    size = _COUNTS.size
    return (counts & ((1 << 8 * size) - 1)).to_bytes(size, sys.byteorder)


def unpack(counts: int) -> Counts:
    """Counts that `Table.blocks` has packed, or the sum of some."""
    values = _COUNTS.unpack(_raw(counts))
    return Counts(
        *values[:_WAITS_AT],  # type: ignore[misc]
        waits=values[_WAITS_AT:_RUNS_AT],
        runs=values[_RUNS_AT:_WAIT_SUM_AT],
        wait_sum=values[_WAIT_SUM_AT] / _MICROSECONDS,
        run_sum=values[_RUN_SUM_AT] / _MICROSECONDS,
    )


def slot_table(board: Scoreboard, slot: int) -> Table:
    """The table of a slot. Raises ValueError if there is no such slot."""
    return Table(board, board.counts_at(slot), SLOT_QUEUES)


def arbiter_table(board: Scoreboard) -> ArbiterTable:
    """The arbiter's table."""
    return ArbiterTable(board, board.arbiter_counts_at, ARBITER_QUEUES)


def take_full(board: Scoreboard, slot: int) -> None:
    """Move the counts of a slot to the arbiter's table if its own has no room for further queues.
    Runs in the arbiter, while the slot has no worker."""
    table = slot_table(board, slot)
    if table.is_full:
        arbiter_table(board).take(table)


def count_recovered(board: Scoreboard, record: Record, verdict: str) -> None:
    """Count the outcome that a recovery has given to the job of a dead worker. Runs in the
    arbiter. verdict: as the hook `job_lost` has it."""
    if record.phase >= Phase.PREPARED:
        outcome = "interrupted" if verdict == "requeued" else verdict
        arbiter_table(board).end(record.queue, outcome, None)


class Totals:
    """Sums up all tables, again and again. Runs in any process and thread."""

    def __init__(self, board: Scoreboard) -> None:
        self._board = board
        self._arbiters = arbiter_table(board)
        self._slots: dict[int, Table] = {}
        self._moves = -1

    def read(self) -> dict[str, Counts]:
        """By queue, the counts of all workers that have ever been, in any slot and generation;
        OTHER stands for the queues that had no room. Takes some milliseconds with a thousand
        workers."""
        for _ in range(_ATTEMPTS):
            moves = self._arbiters.moves
            sums = self._sum(moves)
            if self._arbiters.moves == moves and not moves & 1:
                break
            time.sleep(0)
        return {queue: unpack(counts) for queue, counts in sums.items()}

    def _sum(self, moves: int) -> dict[str, int]:
        if moves != self._moves:  # names may have gone
            self._moves, self._slots = moves, {}
        tables, board = self._slots, self._board
        sums = dict(self._arbiters.blocks())
        for slot in board.counted():
            table = tables.get(slot) or tables.setdefault(slot, slot_table(board, slot))
            for queue, counts in table.blocks():
                sums[queue] = sums.get(queue, 0) + counts
        return sums


def totals(board: Scoreboard) -> dict[str, Counts]:
    """As `Totals.read`, once."""
    return Totals(board).read()
