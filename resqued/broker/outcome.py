"""Outcomes of jobs in the form that `step.lua` takes.

A plain success is built here, without RQ's code; every other outcome is recorded from the commands
of RQ's code. `tests/worker/test_keys.py` compares all keys with those that rq.SimpleWorker leaves.
"""

from __future__ import annotations

import operator
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol

from rq.defaults import UNSERIALIZABLE_RETURN_VALUE_PAYLOAD
from rq.executions import Execution
from rq.job import Job

from resqued.broker.wire import bulk

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
"""Attributes of a job that change while it runs; RQ saves the first four again at its end."""

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


def rq_time(moment: datetime) -> str:
    """A time in UTC as RQ writes it (`rq.utils.utcformat`)."""
    return f"{moment.isoformat('T', 'microseconds')[:26]}Z"


class Packs(Protocol):
    """Encodes the words of a command."""

    def encode(self, words: Any) -> bytes: ...


class Ending(Protocol):
    """An outcome of the job in hand."""

    def pack(self, wire: Packs) -> tuple[int, bytes]:
        """The number of words, and the words encoded. Raises DataError."""


@dataclass(frozen=True)
class Recorded:
    """An outcome as RQ's own code writes it. commands: each a list of words."""

    execution_id: str
    job_id: str
    queue: str
    commands: Sequence[Sequence[Any]]

    def pack(self, wire: Packs) -> tuple[int, bytes]:
        words: list[Any] = [self.execution_id, self.job_id, self.queue, ""]
        for command in self.commands:
            words.append(len(command))
            words += command
        return len(words), wire.encode(words)


class PlainSuccess(NamedTuple):
    """A plain success; the script knows its commands.

    ttl: seconds that job and result are kept; -1: for ever. score: in the registry of finished
    jobs. seconds: how long the job ran. counted: its hash has counters, to be cleared. depends: it
    depends on other jobs. started, ended: as RQ writes them; started_at, ended_at: in seconds since
    the epoch. value: the result, as RQ writes it; None: none.
    """

    execution_id: str
    job_id: str
    queue: str
    ttl: int
    score: str
    seconds: float
    counted: bool
    depends: bool
    started: str
    ended: str
    started_at: float
    ended_at: float
    value: bytes | None

    def pack(self, wire: Packs) -> tuple[int, bytes]:
        words = (
            self.execution_id,
            self.job_id,
            self.queue,
            "finished",
            self.ttl,
            self.score,
            self.seconds,
            "1" if self.counted else "",
            "1" if self.depends else "",
            self.started,
            self.ended,
            self.started_at,
            self.ended_at,
        )
        if self.value is None:
            return len(words), bulk(words)
        return len(words) + 1, bulk((*words, self.value))


def is_known(job_class: type[Job]) -> bool:
    """Whether RQ's own, unchanged code would write a success of these jobs."""
    return all(getattr(job_class, name) is getattr(Job, name) for name in _METHODS)


class Successes:
    """Builds the outcomes of successful jobs. Runs in the worker. default_ttl: seconds, for results
    of jobs that set none. longest: longest TTL in seconds."""

    def __init__(self, default_ttl: int, longest: int) -> None:
        self._default_ttl = default_ttl
        self._longest = longest
        self._kept: Callable[[Mapping[str, Any]], tuple[Any, ...]] | None = None

    def make(
        self, job: Job, execution: Execution, before: Mapping[str, Any], counted: bool
    ) -> PlainSuccess | None:
        """The outcome of a job that has returned; None: RQ's own code has to make it. before: the
        job's attributes when it began. counted: its hash has counters."""
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
        return PlainSuccess(
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
    """The serialized result, as `Result.serialize` has it."""
    try:
        raw = job.serializer.dumps(job._result)
    except BaseException:  # as RQ
        raw = job.serializer.dumps(UNSERIALIZABLE_RETURN_VALUE_PAYLOAD)
    return bytes(raw)
