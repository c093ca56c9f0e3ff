"""Whether an execution has no outcome yet, even if RQ's lists of executions were lost.

An execution is listed in the registry of started jobs until it is ended. That key, one per queue,
may be evicted, deleted or overwritten while jobs run. Then the job's hash decides: whoever ends an
execution, RQ's own code included, changes the job's status in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from redis.exceptions import ResponseError
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE, Execution, ExecutionRegistry
from rq.job import JobStatus
from rq.worker_registration import REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY

from resqued.broker.bad_data import is_data_error, set_aside, text_of

_STARTED: Final = JobStatus.STARTED.value

NO_TIMEOUT: Final = 86400
"""Seconds for which a job without a timeout counts as running after a heartbeat of the steward."""

LONGEST_TTL: Final = 10 * 365 * 86400
"""Seconds. Redis refuses larger numbers, and a timeout may have hundreds of digits."""


def is_open(connection: Any, wip: str, job_key: str, execution: Execution) -> bool:
    """Whether an execution has no outcome. wip: key of the queue's registry. Raises redis
    errors."""
    try:
        if connection.zscore(wip, execution.composite_key) is not None:
            return True
    except ResponseError as error:
        if not (is_data_error(error) and set_aside(connection, wip, "zset")):
            raise
    return is_open_unlisted(connection, job_key, execution)


def is_open_unlisted(connection: Any, job_key: str, execution: Execution) -> bool:
    """Whether an execution that the registry does not list has no outcome yet: its job is started,
    by its worker, and has no other execution. Raises redis errors."""
    try:
        fields = connection.hmget(job_key, "status", "worker_name")
    except ResponseError as error:
        if not is_data_error(error):
            raise
        return False  # overwritten: the job no longer exists
    status, worker = (text_of(raw) if raw is not None else None for raw in fields)
    if status != _STARTED or not worker or worker != execution.worker_name:
        return False
    try:
        others = connection.zrange(ExecutionRegistry.key_template.format(execution.job_id), 0, -1)
    except ResponseError as error:
        if not is_data_error(error):
            raise
        others = []
    return {*map(text_of, others)} <= {execution.id}


def set_rosters_aside(connection: Any, queues: Iterable[str]) -> bool:
    """Rename RQ's sets of workers that have the wrong type; whether there was one. queues: names of
    the queues whose sets are checked. Raises redis errors."""
    keys = [REDIS_WORKER_KEYS, *(WORKERS_BY_QUEUE_KEY % name for name in queues)]
    return any([set_aside(connection, key, "set") for key in keys])


def set_lists_aside(connection: Any, wip: str, job_id: str, worker_name: str) -> bool:
    """Rename RQ's lists of executions that have the wrong type; whether there was one. wip: key of
    a queue's registry. Raises redis errors."""
    lists = {
        wip: "zset",
        ExecutionRegistry.key_template.format(job_id): "zset",
        WORKER_EXECUTIONS_KEY_TEMPLATE.format(worker_name): "set",
    }
    return any([set_aside(connection, key, kind) for key, kind in lists.items()])
