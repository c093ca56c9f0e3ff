"""Jobs whose function is not known here: while a deploy rolls, other hosts have the new code.

With `--unknown-function retry` such a job is scheduled again, in RQ's own way, for 5, 20 and 60 s
later, so that a host that knows its function may have it; then it fails.
"""

from __future__ import annotations

from datetime import timedelta
from types import TracebackType
from typing import Any, Final

from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue
from rq.utils import import_attribute, now

from resqued.broker.fencing import UNKNOWN, counted
from resqued.logs import logger

PAUSES: Final = (5, 20, 60)
"""Seconds."""

_LOOKED_UP: Final = (Job.func.fget.__code__, import_attribute.__code__)  # type: ignore[attr-defined]


class UnknownFunction(Exception):
    """Recorded as what a job has failed of, when its last pause is over."""


def is_unknown(error: BaseException | None) -> bool:
    """Whether RQ could not find the job's function, and nothing else went wrong."""
    if not isinstance(error, (ValueError, AttributeError)):
        return False
    trace, codes = error.__traceback__, []
    while trace is not None:
        codes.append(trace.tb_frame.f_code)
        trace = trace.tb_next
    if isinstance(error, ValueError):
        return tuple(codes[-2:]) == _LOOKED_UP
    return tuple(codes[-1:]) == _LOOKED_UP[:1]  # a method that the instance does not have


def raised(error: Exception) -> tuple[type[Exception], Exception, TracebackType | None]:
    """As `sys.exc_info` has it, in the place of what was raised before."""
    return type(error), error, error.__traceback__


class PutOff:
    """One job's, whose function has just been looked for. Raises redis errors."""

    def __init__(self, worker: Any, job: Job) -> None:
        self._worker = worker
        self._job = job
        self._times = counted(worker.connection.hget(job.key, UNKNOWN))

    @property
    def is_over(self) -> bool:
        """Whether it has waited as often as it may."""
        return self._times >= len(PAUSES)

    def reason(self) -> UnknownFunction:
        """Why it fails then."""
        after = ", ".join(map(str, PAUSES))
        return UnknownFunction(
            f"no host that took it knows its function {self._job.func_name!r}; it was tried again"
            f" after {after} s"
        )

    def write(self, queue: Queue, execution: Execution) -> None:
        """One transaction: the execution is over, the job is scheduled and counted."""
        job = self._job
        seconds = PAUSES[self._times]
        with self._worker.connection.pipeline() as pipeline:
            self._worker.cleanup_execution(job, pipeline, execution)
            queue.schedule_job(job, now() + timedelta(seconds=seconds), pipeline=pipeline)
            pipeline.hset(job.key, UNKNOWN, str(self._times + 1))
            pipeline.execute()
        logger.warning(
            f"job={job.id} waits for {seconds} s: its function {job.func_name!r} is not known here"
        )
