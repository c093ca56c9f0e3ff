"""The keys of periodic jobs in Redis, beside those of RQ."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import redis
from rq.defaults import RQ_KEY_PREFIX

from resqued.broker.bad_data import set_aside, text_of

PREFIX: Final = f"{RQ_KEY_PREFIX}:resqued:cron:"
"""Of all keys of periodic jobs."""

JOBS: Final = f"{PREFIX}jobs"
"""Sorted set: each periodic job, by when an arbiter has told that it has it."""

SEEN: Final = f"{PREFIX}seen"
"""Sorted set: each arbiter with periodic jobs, by its last heartbeat."""

LEFT: Final = f"{PREFIX}left"
"""Sorted set: each arbiter that has left in order, by its last heartbeat."""

CHANGES: Final = f"{PREFIX}changes"
"""A number that grows with each change of a definition or a pause."""


def state_key(key: str) -> str:
    """The hash with the state of a periodic job."""
    return f"{PREFIX}job:{key}"


def template_key(key: str) -> str:
    """The hash with the fields of the jobs that a periodic job makes."""
    return f"{PREFIX}template:{key}"


def set_misfits_aside(connection: redis.Redis, arbiter: str, jobs: Iterable[str]) -> bool:
    """Rename keys that another program has given another type: those of these jobs, of this arbiter
    and of all jobs; whether there were some. Raises redis errors."""
    kinds = {SEEN: "zset", LEFT: "zset", JOBS: "zset", CHANGES: "string"}
    kinds[f"{PREFIX}arbiter:{arbiter}"] = "hash"
    for job in jobs:
        kinds |= {state_key(job): "hash", template_key(job): "hash"}
    with connection.pipeline(transaction=False) as pipeline:
        for key in kinds:
            pipeline.type(key)
        found = [text_of(each) for each in pipeline.execute()]
    odd = [key for key, each in zip(kinds, found, strict=True) if each not in (kinds[key], "none")]
    return any([set_aside(connection, key, kinds[key]) for key in odd])
