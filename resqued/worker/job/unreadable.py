"""Jobs that a worker cannot read: due to the job, or to the worker's own set-up.

With a wrong serializer or job class every job is unreadable, and a worker that fails what it cannot
read empties its queues in seconds. So it fails two in a row; it puts the third back and exits.
"""

from __future__ import annotations

import json
import pickle
import pickletools
from typing import TYPE_CHECKING, Any, Final

from rq.exceptions import DeserializationError
from rq.job import UNEVALUATED, Job
from rq.serializers import JSONSerializer

from resqued import logs
from resqued.broker.bad_data import describe_error
from resqued.broker.outages import NO_ANSWER
from resqued.logs import LogEvent
from resqued.scoreboard import Reason

if TYPE_CHECKING:
    from resqued.worker.slot import WorkerSlot

LIMIT: Final = 3
"""How many jobs in a row a worker may meet that it cannot read; with this one it exits."""


class UnreadableJobs:
    """Counts the unreadable jobs in a row of one worker."""

    def __init__(self) -> None:
        self._count = 0

    def forget(self) -> None:
        """A job has been read."""
        self._count = 0

    @property
    def at_limit(self) -> bool:
        """Whether the next unreadable job reaches the limit."""
        return self._count + 1 >= LIMIT

    def reaches_limit(self) -> bool:
        """Count one; True: do not fail it, the worker is the cause."""
        self._count += 1
        return self._count >= LIMIT

    def leave(self, slot: WorkerSlot, job_id: str, why: str) -> None:
        """Make the worker exit as a failure of its slot; the job is back in its queue."""
        logs.error(
            f"{LIMIT} jobs in a row cannot be read, so this worker is set up wrongly, and leaves;"
            f" put back job={job_id}: {why}."
            " Compare --serializer, --job-class and --connection-class with those of whoever"
            " enqueues; `rq requeue` brings back what has failed",
            LogEvent.JOB_NOTICE,
            job=job_id,
        )
        slot.leave(Reason.UNREADABLE)


def reads_as_rqs_own(job_class: type[Job], job_id: str, connection: Any) -> bool:
    """Whether RQ's own class can read what `job_class` cannot. Raises redis errors."""
    if job_class is Job:
        return False
    try:
        Job.fetch(job_id, connection=connection)
    except NO_ANSWER as error:
        if "WRONGTYPE" in str(error):
            return False
        raise
    except Exception:
        return False
    return True


def is_undecoded(job: Job, error: BaseException | None) -> bool:
    """Whether the job failed since its data could not be decoded. Call it before `seal`."""
    return job._func_name is UNEVALUATED and isinstance(error, DeserializationError)


def why_unread(error: BaseException | None) -> str:
    """Text for the log. RQ's own error has no text, but a cause."""
    cause = (error and error.__cause__) or error
    return describe_error(cause) if cause else "its data cannot be decoded"


def is_decodable(job: Job) -> bool:
    """Whether the job's data has the form that the serializer reads. Nothing is unpickled; True for
    serializers that are not RQ's."""
    try:
        if job.serializer.loads is pickle.loads:
            for _ in pickletools.genops(job.data):
                pass
        elif job.serializer is JSONSerializer:
            json.loads(job.data)
    except Exception:
        return False
    return True
