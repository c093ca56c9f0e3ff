"""A job's function: its name, found without unpickling, and jobs whose function is unknown here.

While a deployment rolls out, other hosts have the new code already. With `--unknown-function retry`
a job with an unknown function is scheduled again, as RQ does it, 5, 20 and 60 s later, so that a
host that knows it may take the job; then it fails.
"""

from __future__ import annotations

import pickle
import pickletools
from datetime import timedelta
from types import TracebackType
from typing import Any, Final

from rq.executions import Execution
from rq.job import UNEVALUATED, Job
from rq.queue import Queue
from rq.utils import import_attribute, now

from resqued.broker.fencing import UNKNOWN, read_counter
from resqued.worker.job.lines import Again

_LONGEST_NAME: Final = 200  # characters of a function's name that are shown

PAUSES: Final = (5, 20, 60)
"""Seconds."""

_LOOKED_UP: Final = (Job.func.fget.__code__, import_attribute.__code__)  # type: ignore[attr-defined]


def function_of(job: Job) -> str:
    """The dotted name of the job's function, for people; `?` if it cannot be found. Nothing is
    unpickled, since that can run any code: the job does it within its own time limit."""
    try:
        pickled = job.serializer.loads is pickle.loads
        name = _peek(job.data) if pickled else job.func_name
    except Exception:
        name = "?"
    return str(name)[:_LONGEST_NAME].encode(errors="replace").decode()


def _peek(data: bytes) -> str:
    """The first text in a pickle: the function's name, in what RQ writes."""
    # Protocol 4 or 5, a frame, a mark, a short text: nearly all.
    if data[:1] == b"\x80" and data[2:3] == b"\x95" and data[11:13] == b"(\x8c":
        return data[14 : 14 + data[13]].decode()
    return next((arg for _, arg, _ in pickletools.genops(data) if isinstance(arg, str)), "?")


def seal(job: Job) -> None:
    """Mark a job that could not be unpickled, so that nothing unpickles it again."""
    if job._func_name is UNEVALUATED:
        name = function_of(job)
        job._func_name = name if name != "?" else "<DeserializationError>"  # RQ's word for it
        job._instance, job._args, job._kwargs = None, (), {}


def unseal(job: Job) -> None:
    """Allow the job to be unpickled again, in a process that may die of it."""
    job._func_name = job._instance = job._args = job._kwargs = UNEVALUATED


class UnknownFunction(Exception):
    """Recorded as the error of the job when its last pause is over."""


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


def exc_info_of(error: Exception) -> tuple[type[Exception], Exception, TracebackType | None]:
    """The error as from `sys.exc_info`."""
    return type(error), error, error.__traceback__


class PutOff:
    """Reschedules a job whose function was not found. Raises redis errors, also when made."""

    def __init__(self, worker: Any, job: Job) -> None:
        self._worker = worker
        self._job = job
        self._times = read_counter(worker.connection.hget(job.key, UNKNOWN))

    @property
    def is_over(self) -> bool:
        """Whether it was rescheduled as often as it may be."""
        return self._times >= len(PAUSES)

    @property
    def again(self) -> Again:
        """When it is tried again."""
        return Again(PAUSES[self._times], len(PAUSES) - self._times - 1)

    def reason(self) -> UnknownFunction:
        """The error with which it fails then."""
        after = ", ".join(map(str, PAUSES))
        return UnknownFunction(
            f"no host that took it knows its function {self._job.func_name!r}; it was tried again"
            f" after {after} s"
        )

    def write(self, queue: Queue, execution: Execution) -> None:
        """One transaction: end the execution, schedule the job, count it."""
        job = self._job
        seconds = PAUSES[self._times]
        with self._worker.connection.pipeline() as pipeline:
            self._worker.cleanup_execution(job, pipeline, execution)
            queue.schedule_job(job, now() + timedelta(seconds=seconds), pipeline=pipeline)
            pipeline.hset(job.key, UNKNOWN, str(self._times + 1))
            pipeline.execute()
