"""Counts a worker's jobs on the scoreboard, by queue: how many, how they ended, how long they took.

It makes no system call, and costs less than a microsecond a job.
"""

from __future__ import annotations

from rq.job import Job

from resqued.scoreboard import RecordWriter
from resqued.scoreboard.counts import slot_table


class JobCounts:
    """The counts of one worker. Runs in the worker's main thread."""

    def __init__(self, writer: RecordWriter) -> None:
        self._record = writer.record
        self._table = slot_table(writer.board, writer.slot)

    def start(self, job: Job) -> None:
        """The job in hand begins."""
        self._table.start(self._record.queue, waited(job))

    def end(self, outcome: str, seconds: float | None) -> None:
        """The job in hand has ended. seconds: that it ran; None if that is not known."""
        self._table.end(self._record.queue, outcome, seconds)


def waited(job: Job) -> float | None:
    """Seconds between the moments when a job was enqueued and started; None if RQ has not noted
    them. By the clocks of two hosts, so never less than 0."""
    try:
        seconds = (job.started_at - job.enqueued_at).total_seconds()  # type: ignore[operator]
    except TypeError:  # one of them is None, or naive
        return None
    return seconds if seconds > 0 else 0.0
