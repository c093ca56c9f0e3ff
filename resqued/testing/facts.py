"""Snapshots for tests of plugins: what hooks are given, with defaults for all that does not matter.

Every function takes the fields of what it makes by name, and raises TypeError for another name.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any, TypeVar

from resqued.config import Config
from resqued.plugins.candidates import suggestion
from resqued.snapshots import (
    CronFacts,
    Exit,
    Generation,
    Outcome,
    QueueCounts,
    QueueFacts,
    RedisFacts,
    ScheduleFacts,
    Worker,
    WorkerState,
)

if TYPE_CHECKING:
    from rq.job import Job

_T = TypeVar("_T")


def make_worker(**fields: Any) -> Worker:
    """A worker: number 1, idle, forked just now, with the default settings.

    With a `job_id` it is busy, and its job began just now. `trial=True` gives it the number 0.
    """
    now = time.monotonic()
    number = fields.get("number", 0 if fields.get("trial") else 1)
    busy = fields.get("job_id") is not None
    defaults = {
        "number": number,
        "name": f"test.{number}.1",
        "pid": 4000 + number,
        "generation": 1,
        "queues": ("default",),
        "state": WorkerState.BUSY if busy else WorkerState.IDLE,
        "started_at": now,
        "job_id": None,
        "config": Config(),
        "trial": number == 0,
        "function": "operator.add" if busy else None,
        "queue": fields.get("queues", ("default",))[0] if busy else None,
        "job_started": now if busy else None,
        "timeout": 180.0 if busy else None,
    }
    return _make(Worker, defaults, fields)


def make_exit(**fields: Any) -> Exit:
    """The exit of a worker that was asked to leave, after a minute, with status 0.

    With a `signal` it was killed; with another `code` it left by itself; then nobody expected it.
    """
    killed = fields.get("signal") is not None
    code = None if killed else fields.get("code", 0)
    expected = code == 0
    defaults = {
        "code": code,
        "signal": None,
        "booted": True,
        "expected": expected,
        "seconds": 60.0,
        "rusage": {"utime": 0.5, "stime": 0.1, "maxrss": 50.0 * 2**20},
        "job_id": None,
        "failures_in_a_row": 0 if fields.get("expected", expected) else 1,
        "reason": "asked" if fields.get("expected", expected) else "died",
        "function": "operator.add" if fields.get("job_id") is not None else None,
    }
    return _make(Exit, defaults, fields)


def make_generation(**fields: Any) -> Generation:
    """The first generation: it imports no module."""
    defaults = {"number": 1, "pid": 3001, "modules": (), "config": Config()}
    return _make(Generation, defaults, fields)


def make_outcome(**fields: Any) -> Outcome:
    """A job that finished after 10 ms; with an `error`, one that failed."""
    failed = fields.get("error") is not None
    defaults = {"status": "failed" if failed else "finished", "seconds": 0.01, "error": None}
    return _make(Outcome, defaults, fields)


def make_queue_facts(**fields: Any) -> QueueFacts:
    """The queue `default`, empty, served by one idle worker."""
    defaults = {
        "name": "default",
        "waiting": 0,
        "oldest": 0.0 if fields.get("waiting") else None,
        "workers": 1,
        "busy": 0,
        "jobs_per_minute": 0.0,
        "paused": False,
    }
    return _make(QueueFacts, defaults, fields)


def make_queue_counts(**fields: Any) -> QueueCounts:
    """The counts of a queue from which no job was taken yet."""
    return _make(QueueCounts, {}, fields)


def make_redis_facts(**fields: Any) -> RedisFacts:
    """A server that answers in a millisecond."""
    answers = fields.get("answers", True)
    defaults = {
        "answers": answers,
        "since": time.monotonic(),
        "error": "" if answers else "Connection refused",
        "round_trip": 0.001 if answers else None,
        "suspended": False,
    }
    return _make(RedisFacts, defaults, fields)


def make_schedule_facts(**fields: Any) -> ScheduleFacts:
    """Nothing was moved, and no periodic jobs."""
    return _make(ScheduleFacts, {"moved": 0, "overdue": 0.0}, fields)


def make_cron_facts(**fields: Any) -> CronFacts:
    """One periodic job, `nightly`, that was enqueued once and is due in a minute."""
    defaults = {
        "jobs": 1,
        "enqueued": 1,
        "skipped": 0,
        "missed": 0,
        "late": 0.0,
        "lateness": 0.01,
        "last_success": time.time() - 60,
        "next_name": "nightly",
        "next_at": time.time() + 60,
    }
    return _make(CronFacts, defaults, fields)


def make_job(function: Any = "operator.add", *args: Any, **more: Any) -> Job:
    """An RQ job that is in no queue. Needs no server, as long as nobody asks for its state there.

    function: a dotted name, or the function itself. args: the job's arguments. more: as for
    `rq.job.Job.create`, such as `origin`, `timeout`, `kwargs`, `meta`, `id`.
    """
    from redis import Redis
    from rq.job import Job

    return Job.create(function, args, **{"connection": Redis(), "origin": "default", **more})


def _make(kind: type[_T], defaults: dict[str, Any], fields: dict[str, Any]) -> _T:
    """Raises TypeError for a field that does not exist."""
    known = [each.name for each in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for name in fields:
        if name not in known:
            raise TypeError(
                f"{kind.__name__} has no field {name!r}.{suggestion(name, known)}"
                f" It has {', '.join(known)}"
            )
    return kind(**{**defaults, **fields})
