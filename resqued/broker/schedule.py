"""Enqueue scheduled jobs whose time has come, one by one if they cannot be enqueued together.

`RQScheduler.enqueue_scheduled_jobs` reads all due jobs of a queue at once, so that one unreadable
job would keep all others waiting for ever. Runs in the steward, and in workers without an arbiter.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import redis
from rq.job import Job
from rq.queue import Queue
from rq.registry import ScheduledJobRegistry

from resqued.broker.bad_data import (
    abbreviate,
    describe_error,
    is_data_error,
    log_once,
    redo_what_is_refused,
    text_of,
)
from resqued.broker.outages import NO_ANSWER, is_outage

_AT_ONCE: Final = 500
"""Jobs that are read and enqueued at once."""


def enqueue_due(connection: redis.Redis, names: Iterable[str], serializer: Any) -> None:
    """Enqueue the due jobs of these queues. One that cannot be read stays, and is logged once. One
    round trip if nothing is due, whatever the number of queues. Raises redis errors."""
    for name in _queues_with_due(connection, sorted(names)):
        registry = ScheduledJobRegistry(name, connection=connection, serializer=serializer)
        try:
            _enqueue_all(registry)
        except NO_ANSWER as error:
            if not is_data_error(error):
                raise
            log_once(registry.key, f"scheduled jobs of queue={name} cannot be read: {error}")


def _queues_with_due(connection: redis.Redis, names: Sequence[str]) -> list[str]:
    """Queues with due jobs, or whose registry cannot be counted: reading it shows the error."""
    with connection.pipeline(transaction=False) as pipeline:
        for name in names:
            registry = ScheduledJobRegistry(name, connection=connection)
            pipeline.zcount(registry.key, 0, int(time.time()))
        counts = pipeline.execute(raise_on_error=False)
    return [name for name, count in zip(names, counts, strict=True) if count != 0]


def _enqueue_all(registry: ScheduledJobRegistry) -> None:
    skipped = 0
    while True:
        raw: Any = registry.connection.zrangebyscore(
            registry.key, 0, int(time.time()), start=skipped, num=_AT_ONCE
        )
        if not raw:
            return
        ids = [each for each in map(text_of, raw) if each is not None]
        for each in raw:
            if text_of(each) is None:
                log_once(
                    f"{registry.key} {each!r}", f"no job id: {abbreviate(each)} in {registry.key}"
                )
        left = len(raw) - len(ids)
        try:
            _enqueue(registry, ids)
        except Exception as error:
            if is_outage(error):
                raise
            left += _one_by_one(registry, ids)
        skipped += left
        if len(raw) < _AT_ONCE:
            return


def _one_by_one(registry: ScheduledJobRegistry, ids: list[str]) -> int:
    """Enqueue one by one; how many could not be enqueued."""
    left = 0
    for job_id in ids:
        try:
            _enqueue(registry, [job_id])
        except Exception as error:
            if is_outage(error):
                raise
            left += 1
            text = f"scheduled job={job_id[:80]} of queue={registry.name} cannot be read"
            log_once(f"{registry.key} {job_id}", f"{text}: {describe_error(error)}")
    return left


def _enqueue(registry: ScheduledJobRegistry, ids: list[str]) -> None:
    """Enqueue these jobs, as RQScheduler does."""
    connection, serializer = registry.connection, registry.serializer
    queue = Queue(registry.name, connection=connection, serializer=serializer)
    jobs = Job.fetch_many(ids, connection=connection, serializer=serializer)
    limited = [job for job in jobs if job is not None and job.has_rate_limit]
    with connection.pipeline() as pipeline:
        redo_what_is_refused(pipeline, connection)
        for job_id, job in zip(ids, jobs, strict=True):
            if job is not None and job.has_rate_limit:
                continue
            if job is not None:
                queue._enqueue_job(job, pipeline=pipeline, at_front=job.should_enqueue_at_front())
            registry.remove(job_id, pipeline=pipeline)
        if pipeline.command_stack:
            pipeline.execute()
    for job in limited:
        with connection.pipeline() as pipeline:
            registry.remove(job.id, pipeline=pipeline)
            at_front = job.should_enqueue_at_front()
            queue._enqueue_rate_limited_job(job, pipeline=pipeline, at_front=at_front)
            pipeline.execute()
