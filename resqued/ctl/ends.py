"""Whether an arbiter has ended, or stands still, as is seen from outside."""

from __future__ import annotations

import contextlib
import time
from typing import Final

import click

from resqued.control.client import TookTooLong
from resqued.ctl.choice import REFUSED
from resqued.ctl.progress import Progress
from resqued.exits import ExitCode
from resqued.linux import lives
from resqued.status.chosen import NoArbiter
from resqued.status.reader import StatusReader
from resqued.status.text import seconds

LEAVING: Final = ("drain", "stop")
"""Verbs after which the arbiter ends."""

_EXIT: Final = 30.0
"""Seconds for the arbiter to exit once it has no worker."""

_PERIOD: Final = 0.2
"""Seconds between two looks."""


class Remains:
    """The scoreboard of an arbiter, to be read when it has ended. pid: 0: of none."""

    def __init__(self, pid: int) -> None:
        self._board: StatusReader | None = None
        if pid:
            with contextlib.suppress(NoArbiter):
                self._board = StatusReader(pid)

    def workers(self) -> int:
        """How many workers live, as far as that is known."""
        if self._board is None:
            return 0
        return sum(line.pid is not None for line in self._board.read(memory=False).workers)


def follow_end(
    remains: Remains,
    pid: int,
    ticks: int,
    verb: str,
    deadline: float | None,
    progress: Progress,
) -> int:
    """The arbiter with this pid did not say when it was done: wait for its end, and see whether its
    workers have ended too. ticks: its `birth_ticks`. Returns the exit status. Raises
    TookTooLong."""
    while lives(pid, ticks):
        if deadline is not None and time.monotonic() > deadline:
            raise TookTooLong
        progress.draw()
        time.sleep(_PERIOD)
    progress.end()
    if left := remains.workers():
        text = f"{verb}: the arbiter has ended, and {left} of its workers have not"
        click.echo(text, err=True)
        return REFUSED
    click.echo(f"{verb}: the arbiter has ended")
    return ExitCode.OK


def until_gone(pid: int, ticks: int) -> None:
    """Who waits for the end of an arbiter may start another one at once. ticks: its
    `birth_ticks`. A zombie has ended: its parent may be the one who waits for this command."""
    deadline = time.monotonic() + _EXIT
    while lives(pid, ticks) and time.monotonic() < deadline:
        time.sleep(0.02)


def standstill(pid: int) -> str:
    """Why the arbiter's loop does not turn; empty if it does, or that is not known."""
    with contextlib.suppress(NoArbiter), StatusReader(pid) as reader:
        status = reader.read(memory=False, counts=False)
        if status.process in ("stopped", "traced", "dead"):
            return f"the arbiter's process is {status.process}"
        if status.still is not None:
            return f"the arbiter's loop has not turned for {seconds(status.still)}"
    return ""
