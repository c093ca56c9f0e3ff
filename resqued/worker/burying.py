"""Failing a job that nobody can read, or dares to: by its id alone."""

from __future__ import annotations

import time

from rq.defaults import DEFAULT_FAILURE_TTL
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry
from rq.results import Result
from rq.utils import as_text

from resqued.worker.taking import Taken, Taker


def bury(taker: Taker, taken: Taken, job_class: type[Job], queue: str, reason: str) -> None:
    """Fail a job that is claimed, without reading it. Raises redis errors."""
    connection, key = taker.connection, job_class.key_for(taken.job_id)
    registry = FailedJobRegistry(queue, connection, job_class=job_class)
    is_hash = as_text(connection.type(key)) == "hash"
    result = Result(taken.job_id, Result.Type.FAILED, connection, exc_string=reason)
    with connection.pipeline() as pipeline:
        taker.settle(taken, pipeline)
        if is_hash:
            pipeline.hset(key, "status", JobStatus.FAILED)
            pipeline.expire(key, DEFAULT_FAILURE_TTL)  # longer than its own ttl: it can be requeued
        result.save(ttl=DEFAULT_FAILURE_TTL, pipeline=pipeline)
        pipeline.zadd(registry.key, {taken.job_id: time.time() + DEFAULT_FAILURE_TTL})
        pipeline.execute()
