"""The entry of an arbiter among RQ's cron schedulers, so that RQ's own tools and dashboards show
its periodic jobs."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import redis
from rq import cron_scheduler_registry
from rq.defaults import DEFAULT_CRON_SCHEDULER_TTL, RQ_KEY_PREFIX
from rq.utils import now, utcformat

from resqued import linux
from resqued.broker.bad_data import is_data_error
from resqued.broker.cron import DEAD_AFTER, ORPHAN, SILENT
from resqued.broker.wire import read_script

_OURS: Final = "resqued"
"""Field of the entry by which arbiters know those that are no `rq cron`."""


@dataclass(frozen=True)
class PeriodicJob:
    """last, next: Unix seconds; infinite: never."""

    name: str
    function: str
    queue: str
    interval: float | None
    cron: str | None
    last: float
    next: float

    def as_rq(self) -> dict[str, Any]:
        """As `rq.cron.CronJob.to_dict`, without arguments."""
        return {
            "func_name": self.function,
            "name": self.name,
            "queue_name": self.queue,
            "args": None,
            "kwargs": None,
            "interval": self.interval,
            "cron": self.cron,
            "latest_enqueue_time": _text(self.last),
            "next_enqueue_time": _text(self.next),
        }


class SchedulerRecord:
    """Writes the entry. Its heartbeats are those of `CronStore.beat`."""

    def __init__(self, connection: redis.Redis, arbiter: str) -> None:
        self._connection = connection
        self._arbiter = arbiter
        self._created = utcformat(now())

    def write(self, jobs: Iterable[PeriodicJob]) -> None:
        """Write the entry anew. Raises redis errors; a key of another type is left alone."""
        key = _key(self._arbiter)
        entry: dict[Any, Any] = {
            "hostname": linux.host_name(),
            "pid": str(os.getpid()),
            "name": self._arbiter,
            "created_at": self._created,
            "config_file": "",
            "cron_jobs": json.dumps([each.as_rq() for each in jobs]),
            _OURS: "1",
        }
        seconds = now().timestamp()
        with self._connection.pipeline(transaction=False) as pipeline:
            pipeline.hset(key, mapping=entry)
            pipeline.expire(key, DEFAULT_CRON_SCHEDULER_TTL)
            pipeline.zadd(cron_scheduler_registry.get_registry_key(), {self._arbiter: seconds})
            for answer in pipeline.execute(raise_on_error=False):
                if isinstance(answer, Exception) and not is_data_error(answer):
                    raise answer


def leave(connection: redis.Redis, arbiter: str) -> None:
    """An arbiter leaves in order: it is no scheduler any more, and others need not wait for it.
    Raises redis errors."""
    script = connection.register_script(ORPHAN + read_script("cron_leave"))
    with connection.pipeline(transaction=False) as pipeline:
        pipeline.zrem(cron_scheduler_registry.get_registry_key(), arbiter)
        pipeline.delete(_key(arbiter))
        script(args=[arbiter, RQ_KEY_PREFIX, DEAD_AFTER, SILENT], client=pipeline)
        for answer in pipeline.execute(raise_on_error=False):
            if isinstance(answer, Exception) and not is_data_error(answer):
                raise answer


def _key(arbiter: str) -> str:
    return f"{RQ_KEY_PREFIX}:cron_scheduler:{arbiter}"


def _text(moment: float) -> str | None:
    if not math.isfinite(moment) or moment <= 0:
        return None
    return utcformat(datetime.fromtimestamp(moment, UTC))
