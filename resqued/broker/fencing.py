"""What makes an outcome of a job happen once: its transaction watches the execution.

Each outcome deletes the execution. So a transaction that is sent again finds out whether the
first copy was carried out, and a first copy that Redis comes to late is refused. The same holds
between a worker and a recovery, between several recoveries, and for RQ's maintenance.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final

from redis.client import Pipeline
from redis.exceptions import ResponseError, WatchError
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.utils import as_text

from resqued.broker.bad_data import is_data_error
from resqued.broker.executions import set_lists_aside, stands
from resqued.broker.owner import leave

INTERRUPTIONS: Final = "interruptions"
"""Field of the job's hash: how often we put it back. Cleared when it succeeds."""

UNKNOWN: Final = "unknown"
"""Field of the job's hash: how often it was put off since its function was not known. Cleared when
it succeeds."""

DEATHS: Final = "deaths"
"""Field of the job's hash: how many workers died running it. Cleared when it succeeds."""


UNBEGUN: Final = "unbegun"
"""Field of the job's hash: how many workers died before they heard that it was started for them.
Cleared when it succeeds."""


class Gone(Exception):
    """The execution does not exist: an outcome has been written."""


class Overwritten(Exception):
    """A job's key was given another type before it could begin."""


class OutcomeRefused(BaseException):
    """The transaction of an outcome failed with `error`.

    No Exception: RQ logs those, with a traceback that frightens, and goes on.
    """

    def __init__(self, error: Exception) -> None:
        self.error = error

    @property
    def overtaken(self) -> bool:
        """Whether Redis did not carry it out, since something that is watched has changed."""
        return is_overtaken(self.error)


def is_overtaken(error: BaseException) -> bool:
    """Whether a transaction was not carried out, since something that it watches has changed.

    redis-py raises the same class, with other words, when the connection breaks meanwhile: then
    nobody knows.
    """
    return isinstance(error, WatchError) and error.args == ("Watched variable changed.",)


def requeue(job: Job, queue: Queue, pipeline: Pipeline) -> None:
    """In a transaction that ends its execution: to the front of its queue."""
    job.set_status(JobStatus.QUEUED, pipeline=pipeline)
    pipeline.hset(job.key, "worker_name", "")
    job.cleanup(job.ttl, pipeline=pipeline)
    queue.push_job_id(job.id, pipeline=pipeline, at_front=True)


@contextlib.contextmanager
def in_one_transaction(job: Job) -> Iterator[None]:
    """RQ says in Redis that a job is scheduled for its retry, before the transaction in which
    `Queue.schedule_job` says so again. Only that one may: the job may not be ours any more."""
    set_status = job.set_status

    def set_later(status: JobStatus, pipeline: Pipeline | None = None) -> None:
        job._status = status
        if pipeline is not None:
            set_status(status, pipeline)

    job.set_status = set_later  # type: ignore[method-assign]
    try:
        yield
    finally:
        vars(job).pop("set_status", None)


def execute_or_refuse(execute: Callable[..., Any], **options: bool) -> Any:
    try:
        return execute(**options)
    except Exception as error:
        raise OutcomeRefused(error) from error


def exists(connection: Any, job: Job, execution: Execution) -> bool:
    """Whether an execution has no outcome yet.

    Its hash may have expired, or outlive an execution that RQ's maintenance has called abandoned.
    Raises redis errors.
    """
    return stands(connection, job.started_job_registry.key, job.key, execution)


def send_start(pipeline: Pipeline, connection: Any, job: Job, execution: Execution) -> None:
    """Execute the transaction that makes an execution. What is in its way is set aside, or is the
    job's own hash: raises Overwritten, and redis errors.

    The same commands again do no harm, so a lost reply does not matter.
    """
    commands = list(pipeline.command_stack)
    try:
        pipeline.execute()
    except ResponseError as error:  # the other commands have been carried out
        if not is_data_error(error):
            raise
        wip, name = job.started_job_registry.key, execution.worker_name
        if set_lists_aside(connection, wip, job.id, name):
            pipeline.command_stack = commands
            pipeline.execute()
        elif as_text(connection.type(job.key)) == "hash":
            raise
        else:
            drop(connection, job, execution)
            raise Overwritten(f"its key {job.key} is no hash any more") from error


def drop(connection: Any, job: Job, execution: Execution) -> None:
    """What is left in Redis of an execution that somebody else has ended. It may be done again.

    RQ's `Job.cancel`, its `Job.delete` of a job under a rate limit, and its maintenance take the
    execution off the registry and leave the rest to the worker. Raises redis errors, except
    those of a key of another type.
    """
    with connection.pipeline() as pipeline:
        execution.delete(job, pipeline)
        leave(pipeline, execution)
        answers = pipeline.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, Exception) and not is_data_error(answer):
            raise answer


def guard(pipeline: Pipeline, execution: Execution) -> None:
    """Have a pipeline that is not in its transaction yet watch the execution, which must exist.

    Raises Gone, and redis errors.
    """
    if not _watch(pipeline, execution):
        raise Gone


def _watch(pipeline: Pipeline, execution: Execution) -> bool:
    """WATCH it, then see whether it exists, in one round trip where there is a connection yet.

    RQ's maintenance, when it calls an execution abandoned, changes only the job.
    """
    keys = (execution.key, execution.job.key)
    registry = execution.job.started_job_registry.key
    link: Any = pipeline.connection
    if link is None:
        pipeline.watch(*keys)
    else:
        words = (("WATCH", *keys), ("ZSCORE", registry, execution.composite_key))
        link.send_packed_command(link.pack_commands(words))
        pipeline.parse_response(link, "WATCH")
        try:
            if pipeline.parse_response(link, "ZSCORE") is not None:
                return True
        except ResponseError as error:
            if not is_data_error(error):
                raise
    return stands(pipeline, registry, execution.job.key, execution)


def counted(raw: Any) -> int:
    """What a counter in a job's hash says; 0 if it says nothing that we would have written."""
    try:
        return int(raw or 0)
    except ValueError:
        return 0


def clear_counters(job: Job, pipeline: Pipeline) -> None:
    """In the transaction of a success."""
    pipeline.hdel(job.key, INTERRUPTIONS, DEATHS, UNKNOWN, UNBEGUN)
