"""Find the jobs that a finished job makes ready to run, in a few round trips.

Replaces `Queue.move_dependents_to_ready`, which makes several round trips per dependent. Two
parents that finish at the same moment may both find one dependent ready. So the transaction watches
each dependent too, and one that is queued already, or further on, is not made ready again.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from redis.client import Pipeline
from redis.exceptions import ResponseError
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.registry import ReadyJobRegistry

from resqued.broker.bad_data import (
    abbreviate,
    describe_error,
    is_data_error,
    log_once,
    set_aside,
    text_of,
)

_RELEASED: Final = {
    JobStatus.QUEUED,
    JobStatus.RATE_LIMITED,
    JobStatus.STARTED,
    JobStatus.FINISHED,
    JobStatus.FAILED,
    JobStatus.STOPPED,
}
"""States of a dependent that another parent has made ready already."""


def make_ready(queue: Queue, job: Job, pipeline: Pipeline) -> dict[str, list[str]]:
    """Add the ready dependents to the transaction that ends `job`; job ids by queue.

    pipeline: watches `job.dependents_key`; afterwards it is in its transaction, if the job has
    dependents. The names of their queues are added to RQ's set of queues in the same transaction:
    otherwise nobody would look there for a job that was made ready but not enqueued. A set of the
    wrong type is renamed: the job still gets its outcome, and has no dependents.
    """
    ids = _listed(queue.connection, job.dependents_key, pipeline)
    if not ids:
        return {}
    cls = queue.job_class
    pipeline.watch(*map(cls.key_for, ids))
    waiting, released = [], []
    for dependent in _fetch(queue, ids):
        status = dependent.get_status(refresh=False)
        if status in _RELEASED:
            released.append(dependent.id)
        elif status is not JobStatus.CANCELED:
            waiting.append(dependent)
    ready = _with_all_met(queue, job, waiting, pipeline)
    pipeline.multi()
    by_queue: dict[str, list[Job]] = defaultdict(list)
    for dependent in ready:
        by_queue[dependent.origin].append(dependent)
    for name, group in by_queue.items():
        registry = ReadyJobRegistry(
            name, connection=queue.connection, job_class=cls, serializer=queue.serializer
        )
        registry.register_jobs(group, pipeline)
        pipeline.sadd(queue.redis_queues_keys, queue.redis_queue_namespace_prefix + name)
    over = released + [dependent.id for dependent in ready]
    if len(over) == len(ids):
        pipeline.delete(job.dependents_key)
    elif over:
        pipeline.srem(job.dependents_key, *over)
    return {name: [dependent.id for dependent in group] for name, group in by_queue.items()}


def _listed(connection: Any, key: str, pipeline: Pipeline) -> list[str]:
    """The ids in the set of dependents, read by a pipeline that watches it. Empty if the set has
    the wrong type and was renamed; then Redis refuses the transaction, since the key has changed,
    and the next attempt finds none. Raises redis errors."""
    try:
        members: Any = pipeline.smembers(key)
    except ResponseError as error:
        if not (is_data_error(error) and set_aside(connection, key, "set")):
            raise
        return []
    return sorted(filter(None, map(text_of, members)))


def _fetch(queue: Queue, ids: list[str]) -> list[Job]:
    """Load the dependents that can be read. One that cannot be read stays deferred."""
    with queue.connection.pipeline(transaction=False) as pipeline:
        for job_id in ids:
            pipeline.hgetall(queue.job_class.key_for(job_id))
        hashes = pipeline.execute(raise_on_error=False)
    found = []
    for job_id, content in zip(ids, hashes, strict=True):
        if not content:
            continue
        try:
            if isinstance(content, Exception):
                raise content
            job = queue.job_class(job_id, connection=queue.connection, serializer=queue.serializer)
            job.restore(content)
        except Exception as error:
            text = f"job={job_id} stays deferred, it is unreadable: {abbreviate(error)}"
            log_once(f"dependent {job_id}", text)
        else:
            found.append(job)
    return found


def _with_all_met(queue: Queue, job: Job, waiting: list[Job], pipeline: Pipeline) -> list[Job]:
    """Those that wait for no other job. As `Job.dependencies_are_met`, for all at once."""
    parent: Any = pipeline.hget(job.key, "status")
    status = text_of(parent or b"")
    if not waiting or status in (JobStatus.CANCELED, JobStatus.STOPPED):
        return []
    if status == JobStatus.FAILED:
        waiting = [dependent for dependent in waiting if dependent.allow_dependency_failures]
    cls = queue.job_class
    own: list[Job] = []
    theirs: list[Job] = []
    for each in waiting:
        is_rqs = type(each).dependencies_are_met is Job.dependencies_are_met
        (own if is_rqs else theirs).append(each)  # theirs: a user's own rule decides
    with queue.connection.pipeline(transaction=False) as reads:
        for dependent in own:
            reads.smembers(dependent.dependencies_key)
        parents = reads.execute(raise_on_error=False)
    own = [each for each, found in zip(own, parents, strict=True) if _is_known(each, found)]
    wanted = [{text_of(raw) for raw in each} for each in parents if not isinstance(each, Exception)]
    others = sorted({each for ids in wanted for each in ids if each and each != job.id})
    pipeline.watch(*map(cls.key_for, [job.id, *others]))
    with queue.connection.pipeline(transaction=False) as reads:
        for other in others:
            reads.hget(cls.key_for(other), "status")
        answers = reads.execute(raise_on_error=False)
    states = {other: _state(answer) for other, answer in zip(others, answers, strict=True)}
    met = []
    for dependent, ids in zip(own, wanted, strict=True):
        allowed = {None, JobStatus.FINISHED.value}
        if dependent.allow_dependency_failures:
            allowed.add(JobStatus.FAILED.value)
        if all(states.get(each or "") in allowed for each in ids):
            met.append(dependent)
    return met + [
        dependent
        for dependent in theirs
        if dependent.dependencies_are_met(parent_job=job, pipeline=pipeline)
    ]


def _is_known(dependent: Job, found: Any) -> bool:
    """Whether a dependent's set of parents could be read; if not, it stays deferred. found: the
    set, or the error that Redis returned. Raises redis errors other than data errors."""
    if not isinstance(found, Exception):
        return True
    if not is_data_error(found):
        raise found
    text = f"job={dependent.id} stays deferred, what it waits for cannot be read"
    log_once(f"dependencies {dependent.id}", f"{text}: {describe_error(found)}")
    return False


def _state(answer: Any) -> str | None:
    """A parent's status; None when the parent no longer exists, which RQ counts as finished."""
    if isinstance(answer, Exception):
        return "?"
    return None if answer is None else text_of(answer) or "?"
