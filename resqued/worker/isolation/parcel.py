"""Send a job to a child that was forked before it was known, and its changes back to the worker.

The child gets the attributes of RQ's object, pickled; the job's data are in it as the bytes that
they are in Redis. Back come plain values, and bytes that the worker does not decode.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from rq.executions import Execution
from rq.job import UNEVALUATED, Job
from rq.queue import Queue

from resqued.worker.context import Context
from resqued.worker.job.functions import function_of

_NOT_SENT: Final = frozenset({"connection", "serializer", "log", "perform", "_execute", "_id"})
_NOT_BACK: Final = frozenset(
    {"_status", "_exc_info", "_func_name", "_result", "worker_name", "last_heartbeat"}
)
_PLAIN: Final = (str, int, float, bool, type(None))


def pack(job: Job, queue: Queue, execution: Execution, extra: Mapping[str, Any]) -> bytes | None:
    """Pickle a job; None if that fails: then a child has to be forked with the job."""
    state = {
        name: value
        for name, value in vars(job).items()
        if name not in _NOT_SENT and value is not UNEVALUATED
    }
    try:
        return pickle.dumps(
            (job.id, state, queue.name, execution.id, execution.created_at, dict(extra)),
            pickle.HIGHEST_PROTOCOL,
        )
    except Exception:  # an attribute of a user's class
        return None


class Blanks:
    """Objects of RQ's for a job to come, made before a fork. context: the worker's."""

    def __init__(self, context: Context) -> None:
        worker = context.worker
        self._job = worker.job_class(
            "-", connection=worker.connection, serializer=worker.serializer
        )
        self._execution = Execution("-", "-", worker.connection, worker.name)
        self._execution._job = self._job
        self._queues = {queue.name: queue for queue in worker.queues}
        self._make = context.queues.make
        for queue in worker.queues:
            queue.connection = worker.connection

    def unpack(self, raw: bytes) -> tuple[Job, Queue, Execution, dict[str, Any]]:
        """Fill them in the child, once."""
        job_id, state, name, execution_id, created_at, extra = pickle.loads(raw)
        job, execution = self._job, self._execution
        job._id = execution.job_id = job_id
        vars(job).update(state)
        execution.id = execution_id
        execution.created_at = execution.last_heartbeat = created_at
        return job, self._queues.get(name) or self._make(name), execution, extra


class Before:
    """A job as it was before its code ran. In the child."""

    def __init__(self, job: Job) -> None:
        self._attributes = vars(job).copy()
        for name, value in self._attributes.items():
            if type(value) is list:
                self._attributes[name] = value.copy()
        self._meta = _meta(job)

    def changes(self, job: Job) -> dict[str, Any]:
        """Plain attributes that have changed, and the times of its run."""
        before = self._attributes
        changed = {
            name: value
            for name, value in vars(job).items()
            if value is not before.get(name, before)
            and name not in _NOT_BACK
            and name not in _NOT_SENT
            and _is_plain(value)
            and value != before.get(name, before)
        }
        return {"changed": changed, "times": [_stamp(job.started_at), _stamp(job.ended_at)]}

    def meta(self, job: Job) -> bytes | None:
        """The job's meta, as RQ stores it, if it has changed and can be serialized."""
        meta = _meta(job)
        return None if meta == self._meta else meta


def apply(job: Job, facts: Mapping[str, Any], meta: bytes | None) -> None:
    """In the worker: apply the child's changes to the job. meta: is not decoded."""
    known = vars(job)
    for name, value in facts.get("changed", {}).items():
        if name not in _NOT_BACK and isinstance(known.get(name), (*_PLAIN, list)):
            setattr(job, name, value)
    started, ended = facts.get("times", (None, None))
    if isinstance(started, int | float):
        job.started_at = datetime.fromtimestamp(started, UTC)
    if isinstance(ended, int | float):
        job.ended_at = job.last_heartbeat = datetime.fromtimestamp(ended, UTC)
    if meta is not None:  # RQ writes back what it could not read
        job._unreadable_meta = meta or None
        job.meta = {"unserialized": meta} if meta else {}


def _is_plain(value: Any) -> bool:
    if type(value) is list:
        return all(isinstance(each, _PLAIN) for each in value)
    return isinstance(value, _PLAIN)


def _meta(job: Job) -> bytes | None:
    if not job.meta:
        return b""
    try:
        dumped: bytes = job.serializer.dumps(job.meta)
    except Exception:
        return None
    return dumped


def _stamp(moment: datetime | None) -> float | None:
    return moment.timestamp() if isinstance(moment, datetime) else None


class Sealed:
    """In place of a result, in the worker: its bytes. None: it could not be serialized."""

    def __init__(self, data: bytes | None) -> None:
        self.data = data


class Passing:
    """A serializer around a job's own that returns sealed results unchanged."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.loads = inner.loads

    def dumps(self, value: Any) -> bytes:
        """Raises TypeError for what could not be serialized, which RQ handles."""
        if isinstance(value, Sealed):
            if value.data is None:
                raise TypeError("it could not be serialized in the child")
            return value.data
        dumped: bytes = self.inner.dumps(value)
        return dumped


def seal_result(job: Job, data: bytes | None) -> Sealed:
    """Make RQ store a result that is already serialized."""
    if not isinstance(job.serializer, Passing):
        job.serializer = Passing(job.serializer)
    return Sealed(data)


class ResultTooLarge(Exception):
    """Recorded as the error of a job whose result is larger than --max-result allows."""


def dump_result(job: Job, value: Any, limit: int) -> list[bytes]:
    """Serialize a result; empty if that fails. Raises ResultTooLarge."""
    try:
        data = job.serializer.dumps(value)
        data = data.encode() if isinstance(data, str) else bytes(data)
    except BaseException:  # as RQ, which then stores a text in its place
        return []
    if len(data) > limit:
        raise ResultTooLarge(
            f"the result of {function_of(job)} has {len(data)} bytes as it is stored, and"
            f" --max-result allows {limit}: store it elsewhere and return where, or allow more"
        )
    return [data]
