"""What a child for a job, and its worker, need of who runs the worker's jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from rq.job import Job

if TYPE_CHECKING:
    from resqued.broker.outcome_writer import OutcomeWriter
    from resqued.worker.job.callbacks import Callbacks
    from resqued.worker.job.connection import JobConnection
    from resqued.worker.outcomes import Outcomes


class IsolatedRunner(Protocol):
    """`JobRunner`, as this room sees it."""

    writer: OutcomeWriter
    outcomes: Outcomes
    callbacks: Callbacks
    connection: JobConnection
    inside: Any
    """In the child: its `Inside`."""

    def wrap(self, job: Job) -> None:
        """Stand in the place of the job's `perform` and `_execute`."""
