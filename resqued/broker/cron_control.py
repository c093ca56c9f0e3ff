"""Periodic jobs as people see and steer them, on any host: what Redis has of each, pause, resume,
run. Used by `resquedctl` and by the steward."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import redis
from rq import cron_scheduler_registry
from rq.defaults import (
    DEFAULT_CRON_JOB_HISTORY_LIMIT,
    DEFAULT_CRON_JOB_HISTORY_TTL,
    DEFAULT_CRON_SCHEDULER_TTL,
    RQ_KEY_PREFIX,
)
from rq.utils import now, utcformat, utcparse

from resqued.broker.bad_data import is_data_error, parse_json, text_of
from resqued.broker.cron import DEAD_AFTER, RECORD, Target, job_id, rival_of
from resqued.broker.cron_keys import CHANGES, JOBS, SEEN, state_key
from resqued.broker.pauses import Pause
from resqued.broker.wire import read_script

_RUN: Final = RECORD + read_script("cron_run")
_COUNTS: Final = ("enqueued", "skipped", "missed")
_NUMBERS: Final = ("first", "last", "at", "late", "failures", *_COUNTS)

_STEER: Final = read_script("cron_steer")


@dataclass(frozen=True)
class KeptJob:
    """A periodic job. definition: as in `Definition.shown`; empty if it cannot be read. first,
    last, at: Unix seconds, or None; last is the last tick that is done with, and at when its job
    was enqueued. late: seconds. heard: seconds since an arbiter has told that it has it, up to a
    minute if one lives. job, status: the last job; empty: none. keeper: the arbiter that has
    enqueued it."""

    key: str
    definition: Mapping[str, Any]
    first: float | None
    last: float | None
    at: float | None
    late: float | None
    heard: float
    pause: Pause | None
    job: str
    status: str
    keeper: str
    counts: Mapping[str, int]  # enqueued, skipped, missed
    failures: int  # how many jobs in a row have failed
    success: float | None  # when the last one that has not failed has ended
    rival: str = ""  # the living `rq cron` that has a job of this name, by `with_rivals`

    @property
    def name(self) -> str:
        """As it was registered."""
        return str(self.definition.get("name", self.key))


@dataclass(frozen=True)
class Kept:
    """All of them. clock: Redis's, in Unix seconds. arbiters: identities of those that live."""

    clock: float
    arbiters: tuple[str, ...]
    jobs: tuple[KeptJob, ...]


def read_kept(connection: redis.Redis) -> Kept:
    """All periodic jobs, by name. Raises redis errors."""
    server: Any = connection.time()
    clock = server[0] + server[1] / 1_000_000
    heard: Any = connection.zrange(JOBS, 0, -1, withscores=True)
    living: Any = connection.zrangebyscore(SEEN, clock - DEAD_AFTER, "+inf")
    keys = [(key, clock - at) for raw, at in heard if (key := text_of(raw)) is not None]
    with connection.pipeline(transaction=False) as pipeline:
        for key, _ in keys:
            pipeline.hgetall(state_key(key))
        told = pipeline.execute(raise_on_error=False)
        states = [each or {} for each in map(_unless_odd, told)]
        for state in states:
            job = text_of(state.get(b"job", b"")) or ""
            pipeline.hmget(f"{RQ_KEY_PREFIX}:job:{job}", "status", "ended_at")
        statuses = pipeline.execute(raise_on_error=False)
    found = [
        _kept(key, age, state, status)
        for (key, age), state, status in zip(keys, states, statuses, strict=True)
        if state
    ]
    arbiters = tuple(filter(None, map(text_of, living)))
    return Kept(clock, arbiters, tuple(sorted(found, key=lambda each: (each.name, each.key))))


def with_rivals(connection: redis.Redis, kept: Kept) -> Kept:
    """The same, with the living schedulers of RQ's own that have jobs of these names. Raises redis
    errors."""
    least = kept.clock - DEFAULT_CRON_SCHEDULER_TTL
    with connection.pipeline(transaction=False) as pipeline:
        pipeline.zrangebyscore(cron_scheduler_registry.get_registry_key(), least, "+inf")
        (names,) = map(_unless_odd, pipeline.execute(raise_on_error=False))
        for name in names or ():
            key = f"{RQ_KEY_PREFIX}:cron_scheduler:{text_of(name)}"
            pipeline.hmget(key, "hostname", "pid", "cron_jobs", "resqued")
        entries = [_unless_odd(each) for each in pipeline.execute(raise_on_error=False)]
    rivals: dict[str, str] = {}
    for entry in entries:
        if entry and entry[2] and not entry[3]:
            rival = rival_of(b"", *(each or b"?" for each in entry[:3]))
            rivals |= dict.fromkeys(rival.jobs, f"pid {rival.pid} on {rival.host}")
    jobs = tuple(replace(each, rival=rivals.get(each.name, "")) for each in kept.jobs)
    return replace(kept, jobs=jobs)


def _unless_odd(answer: Any) -> Any:
    """An answer of a pipeline; None if the key has another type. Raises other errors."""
    if not isinstance(answer, Exception):
        return answer
    if not is_data_error(answer):
        raise answer
    return None


def pause_job(connection: redis.Redis, key: str, pause: Pause) -> str:
    """`done`, `already` or `unknown`. Raises redis errors."""
    return _steer(connection, key, "pause", json.dumps({"by": pause.by, "since": pause.since}))


def resume_job(connection: redis.Redis, key: str) -> str:
    """`done`, `already` or `unknown`. Its ticks count from now. Raises redis errors."""
    return _steer(connection, key, "resume", "")


def run_job(connection: redis.Redis, job: KeptJob) -> tuple[str, str]:
    """Enqueue one job now; `done`, `other` or `alone` (see `cron_run.lua`), and its id. Raises
    redis errors; after a connection error it may have been enqueued."""
    definition = job.definition
    target = Target(job.key, job.name, str(definition.get("queue", "")))
    new = job_id(job.key, f"run-{uuid.uuid4().hex[:12]}")
    args: list[Any] = [RQ_KEY_PREFIX, job.key, DEAD_AFTER, definition.get("digest", ""), new]
    args += [utcformat(now()), job.name, target.keys[2], int(bool(definition.get("at_front")))]
    args += [DEFAULT_CRON_JOB_HISTORY_LIMIT, DEFAULT_CRON_JOB_HISTORY_TTL]
    answer: Any = connection.register_script(_RUN)(keys=target.keys, args=args)
    return text_of(answer) or "", new


def _steer(connection: redis.Redis, key: str, what: str, text: str) -> str:
    answer: Any = connection.register_script(_STEER)(
        keys=[state_key(key), CHANGES], args=[what, text]
    )
    return text_of(answer) or ""


def _kept(key: str, heard: float, state: dict[bytes, bytes], job: object) -> KeptJob:
    try:
        plain = parse_json(state.get(b"definition", b""))
    except ValueError:
        plain = None
    numbers = {name: _number(state.get(name.encode())) for name in _NUMBERS}
    paused = state.get(b"paused")
    status, ended = job if isinstance(job, list) else (None, None)
    failed = status == b"failed"
    success = ended if status == b"finished" else state.get(b"success")
    return KeptJob(
        key=key,
        definition=plain if isinstance(plain, dict) else {},
        first=numbers["first"],
        last=numbers["last"],
        at=numbers["at"],
        late=numbers["late"],
        heard=heard,
        pause=None if paused is None else Pause.parse(paused),
        job=text_of(state.get(b"job", b"")) or "",
        status=text_of(status or b"") or "",
        keeper=text_of(state.get(b"keeper", b"")) or "",
        counts={name: int(numbers[name] or 0) for name in _COUNTS},
        failures=int(numbers["failures"] or 0) + failed if status != b"finished" else 0,
        success=_moment(success),
    )


def _number(text: bytes | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _moment(text: bytes | None) -> float | None:
    """Unix seconds of a moment that RQ has written."""
    try:
        return None if not text else utcparse(text.decode()).timestamp()
    except ValueError:
        return None
