"""Make sure that an execution is ended once: the transaction of its outcome watches it.

Each outcome deletes the execution. So a transaction that is sent again finds out whether the first
copy was carried out, and Redis refuses a first copy that arrives late. The same protects a worker
and a recovery from each other, several recoveries, and RQ's maintenance.
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
from resqued.broker.executions import is_open, set_lists_aside
from resqued.broker.owner import remove_running

INTERRUPTIONS: Final = "interruptions"
"""Field of the job's hash: how often a stop of its worker has put it back. Cleared by a success."""

UNKNOWN: Final = "unknown"
"""Field of the job's hash: how often it was rescheduled since its function was not found. Cleared
by a success."""

DEATHS: Final = "deaths"
"""Field of the job's hash: how many workers died running it. Cleared by a success."""


UNBEGUN: Final = "unbegun"
"""Field of the job's hash: how many workers died after a step had started it for them and before
they learned of it. Cleared by a success."""


class Gone(Exception):
    """The execution does not exist: an outcome has been written."""


class Overwritten(Exception):
    """A job's key was given another type before the job could begin."""


class OutcomeRefused(BaseException):
    """An outcome's transaction failed. A BaseException, so that RQ does not log and swallow it."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    @property
    def overtaken(self) -> bool:
        """Whether Redis refused it because a watched key has changed."""
        return is_overtaken(self.error)


def is_overtaken(error: BaseException) -> bool:
    """Whether a transaction was not carried out because a watched key has changed. redis-py raises
    the same class, with another text, when the connection breaks meanwhile; then it is unknown
    whether it was carried out."""
    return isinstance(error, WatchError) and error.args == ("Watched variable changed.",)


def requeue(job: Job, queue: Queue, pipeline: Pipeline) -> None:
    """Add to a transaction that ends the execution: put the job at the front of its queue."""
    job.set_status(JobStatus.QUEUED, pipeline=pipeline)
    pipeline.hset(job.key, "worker_name", "")
    job.cleanup(job.ttl, pipeline=pipeline)
    queue.push_job_id(job.id, pipeline=pipeline, at_front=True)


@contextlib.contextmanager
def in_one_transaction(job: Job) -> Iterator[None]:
    """Delay RQ's early write of a job's status until the transaction of its outcome. RQ writes the
    status `scheduled` for a retry before the transaction in which `Queue.schedule_job` writes it
    again. Only that second write may happen: the job may belong to another worker by then."""
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
    """Whether an execution has no outcome yet. Its own hash does not tell: it may have expired, or
    may outlive an execution that RQ's maintenance calls abandoned. Raises redis errors."""
    return is_open(connection, job.started_job_registry.key, job.key, execution)


def send_start(pipeline: Pipeline, connection: Any, job: Job, execution: Execution) -> None:
    """Execute the transaction that creates an execution; keys of the wrong type are renamed. Raises
    Overwritten if the job's own hash has the wrong type, and redis errors. Sending the same
    commands again does no harm, so a lost reply does not matter."""
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
            delete_execution(connection, job, execution)
            raise Overwritten(f"its key {job.key} is no hash any more") from error


def delete_execution(connection: Any, job: Job, execution: Execution) -> None:
    """Delete what is left in Redis of an execution that another process has ended. Repeatable.

    RQ's `Job.cancel`, its `Job.delete` of a job under a rate limit, and its maintenance remove the
    execution from the registry and leave the rest to the worker. Raises redis errors, except data
    errors.
    """
    with connection.pipeline() as pipeline:
        execution.delete(job, pipeline)
        remove_running(pipeline, execution)
        answers = pipeline.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, Exception) and not is_data_error(answer):
            raise answer


def watch_execution(pipeline: Pipeline, execution: Execution) -> None:
    """Make a pipeline, not yet in its transaction, watch the execution, which must exist. Raises
    Gone, and redis errors."""
    if not _watch(pipeline, execution):
        raise Gone


def _watch(pipeline: Pipeline, execution: Execution) -> bool:
    """WATCH the execution, then check whether it exists, in one round trip if connected. The job is
    watched too: RQ's maintenance, when it calls an execution abandoned, changes only the job."""
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
    return is_open(pipeline, registry, execution.job.key, execution)


def read_counter(raw: Any) -> int:
    """The value of a counter in a job's hash; 0 if it is missing or not a number."""
    try:
        return int(raw or 0)
    except ValueError:
        return 0


def clear_counters(job: Job, pipeline: Pipeline) -> None:
    """Add to the transaction of a success: delete the job's counters."""
    pipeline.hdel(job.key, INTERRUPTIONS, DEATHS, UNKNOWN, UNBEGUN)
