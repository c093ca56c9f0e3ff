"""The scoreboard of a running arbiter, read from outside as `resqued --status` does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resqued.facts import Facts
from resqued.scoreboard import Scoreboard
from resqued.scoreboard.counts import Counts, totals


@contextmanager
def board_of(pid: int) -> Iterator[Scoreboard]:
    """Open it, of the arbiter with this pid."""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if entry.readlink().name.startswith("memfd:resqued-scoreboard"):
                fd = os.open(entry, os.O_RDONLY)
                break
        except OSError:
            continue
    else:
        raise AssertionError(f"pid {pid} has no scoreboard")
    board = Scoreboard(fd, writable=False)
    try:
        yield board
    finally:
        board.close()


def facts_of(pid: int) -> Facts | None:
    """What its steward has measured last."""
    with board_of(pid) as board:
        return Facts.from_plain(board.facts.read())


def totals_of(pid: int) -> dict[str, Counts]:
    """Its counts, by queue."""
    with board_of(pid) as board:
        return totals(board)
