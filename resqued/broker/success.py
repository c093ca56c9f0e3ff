"""The outcome of a plain success: what RQ's own code would write, known beforehand.

`tests/worker/test_keys.py` compares all keys with those that rq.SimpleWorker leaves.
"""

from __future__ import annotations

import operator
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any, Final

from rq.defaults import UNSERIALIZABLE_RETURN_VALUE_PAYLOAD
from rq.executions import Execution
from rq.job import Job

from resqued.broker.hand import rq_time
from resqued.broker.outcome import Finished

_NEWLY: Final = frozenset(
    {
        "_status",
        "started_at",
        "ended_at",
        "last_heartbeat",
        "perform",
        "_execute",
        "_result",
        "_func_name",
        "_instance",
        "_args",
        "_kwargs",
        "_success_callback",
        "_failure_callback",
        "_stopped_callback",
        "connection",
        "serializer",
        "meta",
        "_unreadable_meta",
    }
)
"""Attributes of a job that change while it runs, and of which RQ saves the first four anew."""

_METHODS: Final = (
    "save",
    "to_dict",
    "cleanup",
    "set_status",
    "get_result_ttl",
    "_handle_success",
    "finished_job_registry",
    "started_job_registry",
)


def is_known(job_class: type[Job]) -> bool:
    """Whether RQ's own code would write a success of these jobs."""
    return all(getattr(job_class, name) is getattr(Job, name) for name in _METHODS)


class Successes:
    """Makes the outcomes. Runs in the worker.

    default_ttl: seconds for results of jobs that name none. longest: seconds
    that Redis keeps anything.
    """

    def __init__(self, default_ttl: int, longest: int) -> None:
        self._default_ttl = default_ttl
        self._longest = longest
        self._kept: Callable[[Mapping[str, Any]], tuple[Any, ...]] | None = None

    def of(
        self, job: Job, execution: Execution, before: Mapping[str, Any], counted: bool
    ) -> Finished | None:
        """The outcome of a job that has returned; None: RQ's own code has to make it.

        before: the job's attributes when it began. counted: its hash has counters of ours.
        """
        ttl = job.get_result_ttl(self._default_ttl)
        usual = isinstance(ttl, int) and (0 < ttl <= self._longest or ttl == -1)
        if not usual or job.repeats_left or job.rate_limit_key:
            return None
        if self._kept is None:  # attributes that RQ saves, and the job must not have changed
            self._kept = operator.itemgetter(*(before.keys() - _NEWLY))
        try:
            same = all(map(operator.is_, self._kept(before), self._kept(vars(job))))
        except KeyError:
            return None
        if not same:
            return None
        ended, started = job.ended_at, job.started_at
        if ended is None or started is None:
            return None
        return Finished(
            execution.id,
            job.id,
            job.origin,
            ttl,
            "+inf" if ttl == -1 else str(int(time.time()) + ttl),
            (ended - started).total_seconds(),
            counted,
            bool(job._dependency_ids),
            rq_time(started),
            rq_time(ended),
            execution.created_at.timestamp(),
            ended.timestamp(),
            None if job._result is None else b64encode(_serialized(job)),
        )


def _serialized(job: Job) -> bytes:
    """As Result.serialize has it."""
    try:
        raw = job.serializer.dumps(job._result)
    except BaseException:  # as RQ
        raw = job.serializer.dumps(UNSERIALIZABLE_RETURN_VALUE_PAYLOAD)
    return bytes(raw)
