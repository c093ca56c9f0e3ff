"""One line on a terminal about what `resquedctl ... --wait` waits for: the jobs left, by queue."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Final, Self

from resqued.control.client import NotReached, TookTooLong
from resqued.status.chosen import ChosenArbiter, NoArbiter
from resqued.status.page import jobs_by_queue, leaving_text
from resqued.status.reader import ArbiterStatus, StatusReader
from resqued.status.text import cut, seconds, terminal_width

_PERIOD: Final = 0.2
"""Seconds between two looks."""

_CLEAR: Final = "\r\x1b[K"


class Progress:
    """Draws on standard error, if that is a terminal, and clears the line at the end.

    pid: of the arbiter; 0 if it is not known. shown: whether anything is waited for.
    """

    def __init__(self, pid: int, verb: str, *, shown: bool) -> None:
        self._verb = verb
        self._began = time.monotonic()
        self._drawn = False
        self._reader: StatusReader | None = None
        if shown and pid and sys.stderr.isatty():
            with contextlib.suppress(NoArbiter):
                self._reader = StatusReader(pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()
        if self._reader is not None:
            self._reader.__exit__()

    def draw(self) -> None:
        """What is left now. Nothing where there is no terminal."""
        if self._reader is None:
            return
        waited = seconds(time.monotonic() - self._began)
        text = self._text(self._reader.read(memory=False, counts=False))
        line = cut(f"{self._verb}: {text} ({waited})", terminal_width(sys.stderr) - 1)
        sys.stderr.write(f"{_CLEAR}{line}")
        sys.stderr.flush()
        self._drawn = True

    def _text(self, status: ArbiterStatus) -> str:
        if text := leaving_text(status):
            return text
        summary = status.summary
        if summary.get("booting") is not None:
            return f"generation {summary['booting']} is loading"
        old = [
            line
            for line in status.in_state("busy")
            if line.generation < summary.get("generation", 0)
        ]
        if old:
            return f"older generations: {jobs_by_queue(old)}"
        return f"{summary.get('ready', 0)} of {summary.get('wished', 0)} workers ready"

    def end(self) -> None:
        """Clear the line."""
        if self._drawn:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()
            self._drawn = False

    def until_drained(
        self, arbiter: ChosenArbiter, generation: int, deadline: float | None
    ) -> None:
        """Wait until nothing older than this generation is left.

        deadline: seconds, monotonic; None: no limit. Raises TookTooLong, NotReached.
        """
        while True:
            generations = arbiter.summary().get("generations")
            if generations is None:
                raise NotReached(f"the arbiter, pid {arbiter.pid}, has ended")
            if not any(int(number) < generation for number in generations):
                return
            if deadline is not None and time.monotonic() > deadline:
                raise TookTooLong
            self.draw()
            time.sleep(_PERIOD)
