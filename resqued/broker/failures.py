"""Fail a job by id, without loading it: it cannot be read, or may kill its reader."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from rq.defaults import DEFAULT_FAILURE_TTL
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry, StartedJobRegistry
from rq.results import Result
from rq.utils import as_text

from resqued.broker import story
from resqued.broker.bad_data import is_data_error, redo_what_is_refused
from resqued.broker.claims import Claim, Claims
from resqued.broker.owner import remove_running
from resqued.broker.story import StoryEvent


def fail_execution(
    connection: Any,
    job_class: type[Job],
    execution: Execution,
    queue: str,
    reason: str,
    event: StoryEvent | None = None,
) -> None:
    """Fail a job that is started, whatever is stored under its keys. event: for its story. Raises
    redis errors, except data errors of these keys."""
    key, job_id = job_class.key_for(execution.job_id), execution.job_id
    failed = FailedJobRegistry(queue, connection, job_class=job_class)
    wip = StartedJobRegistry(queue, connection, job_class=job_class)
    with connection.pipeline(transaction=False) as pipeline:
        pipeline.type(key)
        pipeline.zscore(wip.key, execution.composite_key)
        kind, score = pipeline.execute(raise_on_error=False)
    result = Result(job_id, Result.Type.FAILED, connection, exc_string=reason)
    with connection.pipeline() as pipeline:
        redo_what_is_refused(pipeline, connection)
        if score is not None:
            if as_text(kind) == "hash":
                pipeline.hset(key, "status", JobStatus.FAILED)
            result.save(ttl=DEFAULT_FAILURE_TTL, pipeline=pipeline)
            pipeline.zadd(failed.key, {job_id: time.time() + DEFAULT_FAILURE_TTL})
        stand_in: Any = SimpleNamespace(started_job_registry=wip)
        execution.delete(stand_in, pipeline)
        remove_running(pipeline, execution)
        story.add(pipeline, job_id, event)
        answers = pipeline.execute(raise_on_error=False)
    for answer in (kind, score, *answers):
        if isinstance(answer, Exception) and not is_data_error(answer):
            raise answer


def fail_claimed(
    claims: Claims,
    taken: Claim,
    job_class: type[Job],
    queue: str,
    reason: str,
    event: StoryEvent | None = None,
) -> None:
    """Fail a job that is claimed and not started. event: for its story. Raises redis errors."""
    connection, key = claims.connection, job_class.key_for(taken.job_id)
    registry = FailedJobRegistry(queue, connection, job_class=job_class)
    is_hash = as_text(connection.type(key)) == "hash"
    result = Result(taken.job_id, Result.Type.FAILED, connection, exc_string=reason)
    with connection.pipeline() as pipeline:
        redo_what_is_refused(pipeline, connection)
        claims.remove_in(taken, pipeline)
        if is_hash:
            pipeline.hset(key, "status", JobStatus.FAILED)
            pipeline.expire(key, DEFAULT_FAILURE_TTL)  # longer than its own ttl: it can be requeued
        result.save(ttl=DEFAULT_FAILURE_TTL, pipeline=pipeline)
        pipeline.zadd(registry.key, {taken.job_id: time.time() + DEFAULT_FAILURE_TTL})
        story.add(pipeline, taken.job_id, event)
        pipeline.execute()
