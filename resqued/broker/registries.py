"""RQ's maintenance of registries, in parts: an error in one does not stop the others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from rq.exceptions import NoSuchJobError
from rq.executions import Execution
from rq.intermediate_queue import IntermediateQueue
from rq.queue import Queue
from rq.rate_limit import RateLimitRegistry
from rq.registry import FailedJobRegistry, FinishedJobRegistry, ReadyJobRegistry, StartedJobRegistry
from rq.utils import current_timestamp
from rq.worker import BaseWorker
from rq.worker_registration import clean_worker_registry

from resqued import logs
from resqued.broker.bad_data import abbreviate, describe_error, log_once, text_of
from resqued.broker.failures import fail_execution
from resqued.broker.outages import is_outage
from resqued.logs import LogEvent, logger


def attempt(what: str, part: Callable[[], object]) -> bool:
    """Run one part; whether it succeeded. Raises redis errors that concern more than this part."""
    try:
        part()
    except Exception as error:
        if is_outage(error):
            raise
        text = describe_error(error)
        log_once(f"{what} {text}", f"maintenance: {what}: {text}; it goes on")
        logger.opt(exception=True).debug(f"maintenance: {what}")
        return False
    return True


def clean(worker: BaseWorker, queue: Queue, handlers: list[Any] | None) -> None:
    """As `rq.registry.clean_registries`, and what `BaseWorker.clean_registries` does after it."""
    given: dict[str, Any] = {
        "name": queue.name,
        "connection": queue.connection,
        "job_class": queue.job_class,
        "serializer": queue.serializer,
    }
    of = f"of queue={queue.name}"
    attempt(f"finished jobs {of}", FinishedJobRegistry(**given).cleanup)
    started = StartedJobRegistry(**given)

    def end_abandoned() -> None:
        started.cleanup(exception_handlers=handlers)

    if not attempt(f"started jobs {of}", end_abandoned):
        attempt(f"unreadable started jobs {of}", lambda: _fail_unreadable(started))
        attempt(f"started jobs {of}, again", end_abandoned)
    attempt(f"failed jobs {of}", FailedJobRegistry(**given).cleanup)
    attempt(f"ready jobs {of}", lambda: enqueue_ready(ReadyJobRegistry(**given)))
    attempt("rate limits", lambda: _clean_rate_limits(queue))
    attempt(f"workers {of}", lambda: clean_worker_registry(queue))
    attempt(f"jobs in transit {of}", lambda: _clean_intermediate(worker, queue))


def _clean_rate_limits(queue: Queue) -> None:
    for registry in RateLimitRegistry.all(queue.connection):
        attempt(f"rate limit {registry.key}", registry.cleanup)


def _fail_unreadable(registry: StartedJobRegistry) -> None:
    """Fail abandoned jobs that cannot be read, so that the others can be cleaned up."""
    connection = registry.connection
    raws: Any = connection.zrangebyscore(registry.key, 0, current_timestamp())
    for raw in raws:
        member = text_of(raw)
        if member is None or ":" not in member:
            log_once(f"wip {raw!r}", f"dropped {abbreviate(raw)} from {registry.key}: not of RQ")
            connection.zrem(registry.key, raw)
            continue
        job_id, _, execution_id = member.rpartition(":")
        try:
            registry.job_class.fetch(job_id, connection, registry.serializer)
        except NoSuchJobError:
            continue
        except Exception as error:
            if is_outage(error):
                raise
            reason = f"abandoned, and unreadable: {describe_error(error)}"
            logs.error(
                f"failed job={job_id} queue={registry.name}: {reason}",
                LogEvent.JOB_FAILED,
                job=job_id,
                queue=registry.name,
            )
            execution = Execution(execution_id, job_id, connection)
            fail_execution(connection, registry.job_class, execution, registry.name, reason)


def enqueue_ready(registry: ReadyJobRegistry) -> None:
    """Enqueue all ready jobs; if one cannot be read, each by itself, and that one is logged once.
    Raises redis errors, also for a registry of the wrong type."""
    raw: Any = registry.connection.zrange(registry.key, 0, -1)
    ids = [each for each in map(text_of, raw) if each is not None]
    try:
        registry.enqueue_jobs(ids)
        return
    except Exception as error:
        if is_outage(error):
            raise
    for job_id in ids:
        try:
            registry.enqueue_jobs([job_id])
        except Exception as error:
            if is_outage(error):
                raise
            text = f"ready job={job_id} of queue={registry.name} cannot be read"
            log_once(f"ready {job_id}", f"{text}: {describe_error(error)}")


def _clean_intermediate(worker: BaseWorker, queue: Queue) -> None:
    for raw in queue.connection.lrange(IntermediateQueue(queue.key, queue.connection).key, 0, -1):
        job_id = text_of(raw)
        if job_id is None:
            log_once(
                f"transit {raw!r}", f"no job id: {abbreviate(raw)} in transit from {queue.key}"
            )
            continue
        one: Any = IntermediateQueue(queue.key, queue.connection)
        one.get_job_ids = partial(list, [job_id])
        attempt(f"job={job_id} in transit", partial(one.cleanup, worker, queue))
