"""The state of periodic jobs in Redis: who has which definition, the last tick, pauses.

A job's state is a hash, the fields of the jobs that it makes another. One script a tick enqueues it
and is done with it. Speaks only in keys, texts and numbers; `resqued.cron` knows what they mean.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import redis
from rq.defaults import (
    DEFAULT_CRON_JOB_HISTORY_LIMIT,
    DEFAULT_CRON_JOB_HISTORY_TTL,
    DEFAULT_CRON_SCHEDULER_TTL,
    RQ_KEY_PREFIX,
)
from rq.job import Job
from rq.queue import Queue
from rq.utils import now as utc_now
from rq.utils import utcformat

from resqued import linux
from resqued.broker.bad_data import text_of
from resqued.broker.cron_keys import JOBS, set_misfits_aside, state_key, template_key
from resqued.broker.schedule import registry_key
from resqued.broker.wire import read_script

DEAD_AFTER: Final = 15
"""Seconds after which an arbiter that is not heard of does not count as one that has a
definition."""

KEPT: Final = 86400
"""Seconds for which Redis keeps what a silent arbiter has announced."""

FORGOTTEN: Final = 30 * 86400
"""Seconds after which a job is forgotten that no arbiter has."""

SILENT: Final = 120
"""Seconds for which a job is not heard of from when nobody has it: more than between two signs."""

ORPHAN: Final = read_script("cron_orphan")
RECORD: Final = read_script("cron_record")


@dataclass(frozen=True)
class CronCall:
    """What a job calls, as RQ has it. function: a dotted name, or that of a method of `instance`.
    options: of `enqueue`."""

    function: str
    instance: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """Where a periodic job is enqueued. key: of the periodic job. name: in RQ's records."""

    key: str
    name: str
    queue: str
    at_front: bool = False

    @property
    def keys(self) -> list[str]:
        """What the scripts that enqueue use."""
        return [
            state_key(self.key),
            template_key(self.key),
            Queue.redis_queue_namespace_prefix + self.queue,
            Queue.redis_queues_keys,
            f"{RQ_KEY_PREFIX}:cron_job:{self.name}:jobs",
            f"{RQ_KEY_PREFIX}:cron_jobs",
            registry_key(self.queue),
        ]


@dataclass(frozen=True)
class Rival:
    """A living scheduler of RQ's own, `rq cron`. jobs: names of its periodic jobs."""

    name: str
    host: str
    pid: str
    jobs: frozenset[str]


@dataclass(frozen=True)
class Beat:
    """The answer to a heartbeat. clock: Redis's, in Unix seconds. known: whether Redis still has
    what was announced. heard: the clock at the heartbeat before; 0.0: there was none. changes:
    another number than before if a definition or a pause has changed."""

    clock: float
    known: bool
    heard: float
    changes: bytes
    rivals: tuple[Rival, ...]


@dataclass(frozen=True)
class CronState:
    """What Redis has of a job. what: `ours`, `other` or `late`, see `cron_announce.lua`. last: as
    text, since it is compared. by: the host of the arbiter that has brought the definition in
    force."""

    what: str
    clock: float
    first: float
    last: bytes
    paused: bool
    keeper: str
    by: str
    definition: Mapping[str, Any]


@dataclass(frozen=True)
class Announced:
    """A job as an arbiter has it. fields: of the records of the jobs that it makes."""

    key: str
    digest: str
    definition: Mapping[str, Any]
    interval: bool
    enabled: bool
    fields: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Tick:
    """What is to be done about a job. last, becomes: the last tick, before and after. due: when the
    newest tick to enqueue is due; 0.0: there is none. word: of this call alone. ids: of the
    jobs."""

    target: Target
    digest: str
    last: bytes
    becomes: bytes
    due: float
    word: str
    overlap: bool
    missed: int
    ids: Sequence[str] = ()


@dataclass(frozen=True)
class Ticked:
    """The answer. what: `done`, `overlap`, `other`, `paused`, `moved` or `early`, see
    `cron_tick.lua`; `odd` if a key has another type, which `status` names."""

    what: str
    clock: float = 0.0
    last: bytes = b""
    paused: bool = False
    keeper: str = ""
    status: str = ""


class CronStore:
    """Sends the scripts. arbiter: the identity of the arbiter that asks."""

    def __init__(self, connection: redis.Redis, arbiter: str) -> None:
        self._connection = connection
        self._arbiter = arbiter
        self._beat = connection.register_script(read_script("cron_beat"))
        self._announce = connection.register_script(read_script("cron_announce"))
        self._tick = connection.register_script(RECORD + read_script("cron_tick"))
        self._forget = connection.register_script(ORPHAN + read_script("cron_forget"))

    def ping(self) -> None:
        """Raises redis errors."""
        self._connection.ping()

    def beat(self) -> Beat:
        """Tell that this arbiter lives. Raises redis errors."""
        args: list[Any] = [self._arbiter, RQ_KEY_PREFIX, KEPT, DEFAULT_CRON_SCHEDULER_TTL]
        clock, known, heard, changes, told = self._beat(args=args)
        rivals = zip(told[::4], told[1::4], told[2::4], told[3::4], strict=True)
        found = tuple(rival_of(*each) for each in rivals)
        return Beat(float(clock), bool(known), float(heard), changes, found)

    def announce(self, jobs: Iterable[Announced], age: float, heard: float) -> list[CronState]:
        """Tell which jobs this arbiter has. age: seconds since its generation was loaded. heard:
        Redis's clock at the last heartbeat of the process before this one; 0.0: there was none.
        Raises redis errors."""
        common: list[Any] = [self._arbiter, RQ_KEY_PREFIX, f"{age:.3f}", DEAD_AFTER, KEPT]
        with self._connection.pipeline(transaction=False) as pipeline:
            for each in jobs:
                words: list[Any] = [each.key, each.digest, json.dumps(each.definition)]
                words += [
                    "interval" if each.interval else "cron",
                    int(each.enabled),
                    linux.host_name(),
                    f"{heard:.3f}",
                ]
                words += [word for pair in each.fields.items() for word in pair]
                self._announce(args=[*common, *words], client=pipeline)
            return [_state(answer) for answer in pipeline.execute()]

    def hear(self, keys: Iterable[str]) -> None:
        """Note that these jobs are heard of, by Redis's clock. Raises redis errors."""
        server: Any = self._connection.time()
        self._connection.zadd(JOBS, dict.fromkeys(keys, server[0]))

    def tick(self, ticks: Iterable[Tick]) -> list[Ticked]:
        """Enqueue what is due. Raises redis errors; call it again with the same ticks then."""
        written = utcformat(utc_now())
        with self._connection.pipeline(transaction=False) as pipeline:
            for tick in ticks:
                target = tick.target
                args: list[Any] = [self._arbiter, RQ_KEY_PREFIX, tick.digest, tick.last]
                args += [tick.becomes, f"{tick.due:.3f}", tick.word, "" if tick.overlap else "skip"]
                args += [written, DEFAULT_CRON_JOB_HISTORY_LIMIT, DEFAULT_CRON_JOB_HISTORY_TTL]
                args += [target.name, target.keys[2], int(target.at_front), tick.missed, *tick.ids]
                self._tick(keys=target.keys, args=args, client=pipeline)
            return [_ticked(each) for each in pipeline.execute(raise_on_error=False)]

    def set_aside(self, keys: Iterable[str]) -> bool:
        """Rename resqued's own keys of these jobs that have another type, and those of all; whether
        there were some. Raises redis errors."""
        return set_misfits_aside(self._connection, self._arbiter, keys)

    def forget(self, keys: Iterable[str], age: float) -> list[str]:
        """Drop what this arbiter has no more, and jobs that no arbiter has had for FORGOTTEN. keys:
        of its jobs. age: seconds since its generation was loaded. Raises redis errors."""
        args: list[Any] = [RQ_KEY_PREFIX, FORGOTTEN, self._arbiter, f"{age:.3f}"]
        args += [DEAD_AFTER, SILENT, *keys]
        return [text_of(each) or "?" for each in self._forget(args=args)]


def job_id(key: str, word: str) -> str:
    """The id of a job of a periodic job. RQ allows letters, digits and dashes."""
    digest = hashlib.sha1(key.encode(), usedforsecurity=False).hexdigest()[:16]
    return f"cron-{digest}-{word}"


def fields_of(queue: str, serializer: str | None, call: CronCall) -> dict[str, Any]:
    """The record of a job as RQ would write it, without its id and times. Raises what RQ raises for
    options that cannot be, and what the serializer does."""
    given = dict(call.options)
    given.pop("at_front", None)
    given["timeout"] = given.pop("job_timeout", None)
    connection: Any = redis.Redis()  # it is never used
    home = Queue(queue, connection=connection, serializer=serializer)
    job: Job = home.create_job(call.function, args=call.args, kwargs=dict(call.kwargs), **given)
    job._instance = call.instance
    record: dict[str, Any] = job.to_dict()
    times = ("created_at", "enqueued_at", "status")
    return {name: value for name, value in record.items() if name not in times}


def rival_of(name: bytes, host: bytes, pid: bytes, jobs: bytes) -> Rival:
    """A scheduler as its entry has it. jobs: JSON."""
    try:
        names = frozenset(str(each["name"]) for each in json.loads(jobs))
    except (ValueError, TypeError, KeyError, RecursionError):
        names = frozenset()
    return Rival(text_of(name) or "?", text_of(host) or "?", text_of(pid) or "?", names)


def _state(answer: Sequence[bytes]) -> CronState:
    what, clock, first, last, paused, keeper, by, definition = answer
    try:
        told = json.loads(definition)
    except ValueError:
        told = {}
    return CronState(
        what.decode(),
        float(clock),
        _number(first),
        last,
        bool(paused),
        text_of(keeper) or "",
        text_of(by) or "",
        told if isinstance(told, dict) else {},
    )


def _ticked(answer: Any) -> Ticked:
    if isinstance(answer, redis.ResponseError):
        return Ticked("odd", status=str(answer).removeprefix("WRONGTYPE "))
    if isinstance(answer, Exception):
        raise answer
    what, clock, last, paused, keeper, status = answer
    texts = text_of(keeper) or "", text_of(status) or ""
    return Ticked(what.decode(), float(clock), last, bool(paused), *texts)


def _number(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
