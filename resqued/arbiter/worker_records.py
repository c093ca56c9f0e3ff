"""The records of all workers, as the arbiter's turns read them from the scoreboard."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from resqued import linux
from resqued.core.state import WorkerHandle
from resqued.scoreboard import Record, Scoreboard, Seen

QUIET: Final = 2.0
"""Seconds without a write to its record after which the kernel is asked whether a worker runs."""


class WorkerRecords:
    """The records as last read."""

    def __init__(self, scoreboard: Scoreboard) -> None:
        self._scoreboard = scoreboard
        self.seen: dict[int, Seen] = {}
        self.frozen: frozenset[int] = frozenset()
        """Slots whose process was stopped (SIGSTOP), with a job, when it was last asked."""

    def read(self, workers: Iterable[WorkerHandle]) -> dict[int, Record]:
        """Read the records of all workers with a pid; by slot."""
        slots = [worker.slot for worker in workers if worker.pid]
        look, before = self._scoreboard.read_again, self.seen
        self.seen = {slot: look(slot, before.get(slot)) for slot in slots}
        return {slot: record for slot, (_, record) in self.seen.items()}

    def find_frozen(self, now: float) -> None:
        """Ask the kernel which workers with a job are stopped. Others have a deadline on their
        record."""
        busy = [(slot, record) for slot, (_, record) in self.seen.items() if record.phase.holds_job]
        quiet = [(slot, record.pid) for slot, record in busy if now - record.heartbeat > QUIET]
        self.frozen = frozenset(slot for slot, pid in quiet if linux.is_stopped(pid))
