"""Counts a worker's jobs on the scoreboard, by queue: how many, how they ended, how long they took.

It makes no system call, and costs less than a microsecond a job.
"""

from __future__ import annotations

from rq.job import Job
from rq.utils import now

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
    """Seconds between the moments when a job was enqueued and started, or now if it is to be
    started; None if RQ has not noted when it was enqueued. By the clocks of two hosts, so never
    less than 0."""
    enqueued, started = job.enqueued_at, job.started_at
    if enqueued is None:
        return None
    try:
        if started is None or started < enqueued:  # of an earlier execution
            started = now()
        seconds = (started - enqueued).total_seconds()
    except TypeError:  # one of them is naive
        return None
    return seconds if seconds > 0 else 0.0
