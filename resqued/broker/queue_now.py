"""One queue at this moment, with the workers that serve it, for `resquedctl why`. Only reads."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from rq.queue import Queue
from rq.registry import (
    DeferredJobRegistry,
    FailedJobRegistry,
    ScheduledJobRegistry,
    StartedJobRegistry,
)
from rq.scheduler import RQScheduler
from rq.suspension import WORKERS_SUSPENDED
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from resqued.broker.bad_data import is_data_error, text_of
from resqued.broker.fleet import read_fleet
from resqued.broker.owner import GENERATION, NO_ARBITER, OWNER, QUEUE, Owner, worker_key
from resqued.broker.pauses import read_pauses
from resqued.why.facts import QueueNow, WorkerFacts

_FIELDS: Final = (OWNER, GENERATION, "hostname", "state", "last_heartbeat", "birth", "death")


@dataclass(frozen=True)
class Here:
    """What the arbiter that is asked knows itself. workers: slot and generation by name."""

    workers: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    per_minute: Mapping[str, float] = field(default_factory=dict)  # jobs that ended, by queue
    queues: tuple[str, ...] = ()  # that it serves


def ask(connection: Any, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
    """The answers, in one round trip; None in place of an error that stored data causes. Raises all
    other redis errors, also for a command that is forbidden: what it tells is not known then."""
    with connection.pipeline(transaction=False) as pipeline:
        count = 0
        for words in commands:
            pipeline.execute_command(*words)
            count += 1
        answers: list[Any] = pipeline.execute(raise_on_error=False) if count else []
    for answer in answers:
        if isinstance(answer, Exception) and not is_data_error(answer):
            raise answer
    return [None if isinstance(answer, Exception) else answer for answer in answers]


def read_queue(connection: Any, name: str, here: Here) -> QueueNow:
    """Raises redis errors."""
    registries = (StartedJobRegistry, ScheduledJobRegistry, DeferredJobRegistry, FailedJobRegistry)
    started, scheduled, deferred, failed = (each.key_template.format(name) for each in registries)
    answers = ask(
        connection,
        [
            ("SMEMBERS", Queue.redis_queues_keys),
            ("LLEN", QUEUE + name),
            ("LINDEX", QUEUE + name, 0),
            ("ZCOUNT", started, time.time(), "+inf"),
            ("ZCARD", scheduled),
            ("ZCARD", deferred),
            ("ZCARD", failed),
            ("EXISTS", WORKERS_SUSPENDED),
            ("EXISTS", RQScheduler.get_locking_key(name)),
        ],
    )
    members, waiting, first, running, later, held, over, suspended, locked = answers
    workers = workers_of(connection, name, here)
    pause = read_pauses(connection).get(name)
    fleet = read_fleet(connection).values()
    known = names_of(members)
    everywhere = {*known, *here.queues}
    return QueueNow(
        name,
        known=name in everywhere or bool(workers),
        waiting=waiting or 0,
        oldest=_age(connection, first),
        started=running or 0,
        scheduled=later or 0,
        deferred=held or 0,
        failed=over or 0,
        workers=tuple(workers),
        suspended=bool(suspended),
        paused=pause is not None,
        paused_by=(pause.by or "") if pause is not None else "",
        paused_since=pause.since if pause is not None else None,
        limit=min((each.limits[name] for each in fleet if name in each.limits), default=None),
        scheduler=bool(locked),
        per_minute=_rate(name, workers, here),
        near=tuple(difflib.get_close_matches(name, sorted(everywhere - {name}), 3)),
    )


def workers_of(connection: Any, queue: str, here: Here) -> list[WorkerFacts]:
    """The living workers that serve a queue, by name. Raises redis errors."""
    (members,) = ask(connection, [("SMEMBERS", WORKERS_BY_QUEUE_KEY % queue)])
    keys = sorted(filter(None, map(text_of, members or ())))
    answers = ask(connection, [("HMGET", key, *_FIELDS) for key in keys])
    prefix = worker_key("")
    found = [
        _worker(key.removeprefix(prefix), answer, here)
        for key, answer in zip(keys, answers, strict=True)
    ]
    return [each for each in found if each.registered]


def read_worker(connection: Any, name: str, here: Here) -> WorkerFacts:
    """A worker by its name; not registered if Redis does not know it. Raises redis errors."""
    (answer,) = ask(connection, [("HMGET", worker_key(name), *_FIELDS)])
    return _worker(name, answer, here)


def owner_of(raw: bytes | None) -> Owner | None:
    """None for a worker that is not resqued's."""
    try:
        return Owner.parse(text_of(raw or b"") or "")
    except ValueError:
        return None


def _worker(name: str, answer: list[bytes | None] | None, here: Here) -> WorkerFacts:
    raw, generation, host, state, beat, birth, death = answer or [None] * len(_FIELDS)
    owner = owner_of(raw)
    arbiter = owner.arbiter if owner is not None and owner.arbiter != NO_ARBITER else ""
    number = number_of(name) if arbiter else 0
    number, here_generation = here.workers.get(name, (number, 0))
    heard = moment_of(beat)
    return WorkerFacts(
        name,
        host=text_of(host or b"") or "",
        number=number,
        generation=here_generation or int(text_of(generation or b"0") or 0),
        stock=owner is None and birth is not None,
        arbiter=arbiter,
        here=name in here.workers,
        state=text_of(state or b"") or "",
        beat=None if heard is None else max(0.0, time.time() - heard),
        registered=birth is not None and death is None,
    )


def number_of(name: str) -> int:
    """The slot's number in a worker's name, `HOST.ARBITER.SLOT.SERIAL`; 0 if it has none."""
    words = name.rsplit(".", 2)
    return int(words[1]) if len(words) == 3 and words[1].isdecimal() and words[2].isdecimal() else 0


def names_of(members: Any) -> list[str]:
    """Names of queues, from the members of RQ's set of them."""
    keys = filter(None, map(text_of, members or ()))
    return sorted(key.removeprefix(QUEUE) for key in keys if key.startswith(QUEUE))


def moment_of(raw: bytes | None) -> float | None:
    """Unix seconds, from a moment as RQ writes it; None if it cannot be read."""
    try:
        return datetime.fromisoformat(text_of(raw or b"") or "").timestamp()
    except (ValueError, OverflowError):
        return None


def _age(connection: Any, first: bytes | None) -> float | None:
    """Seconds since this job was enqueued."""
    job_id = text_of(first or b"")
    if not job_id:
        return None
    (raw,) = ask(connection, [("HGET", Queue.job_class.key_for(job_id), "enqueued_at")])
    moment = moment_of(raw)
    return None if moment is None else max(0.0, time.time() - moment)


def _rate(name: str, workers: list[WorkerFacts], here: Here) -> float | None:
    """Jobs a minute by all workers, from those of this arbiter; None: not known."""
    rate = here.per_minute.get(name)
    own = sum(each.here for each in workers)
    return rate * len(workers) / own if rate and own else None
