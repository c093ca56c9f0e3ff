"""Workers that serve a queue and do not obey pauses and limits: RQ's own, and older resqued's."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import redis
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from resqued.broker.bad_data import is_data_error, text_of
from resqued.broker.owner import NO_ARBITER, OWNER, Owner, worker_key


@dataclass(frozen=True)
class ForeignWorker:
    """name, host: as RQ has them. arbiter: identity of its arbiter; empty: it has none."""

    name: str
    host: str
    arbiter: str = ""


def foreign_workers(
    connection: redis.Redis, queue: str, arbiters: Collection[str]
) -> list[ForeignWorker]:
    """The registered workers of a queue that belong to none of these arbiters, by name. arbiters:
    identities of those that obey. One script-free look of two round trips. Raises redis errors."""
    try:
        members: Any = connection.smembers(WORKERS_BY_QUEUE_KEY % queue)
    except redis.ResponseError as error:
        if not is_data_error(error):
            raise
        return []
    keys = sorted(filter(None, map(text_of, members)))
    with connection.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.hmget(key, OWNER, "hostname", "birth", "death")
        answers: list[Any] = pipeline.execute(raise_on_error=False) if keys else []
    found = []
    for key, answer in zip(keys, answers, strict=True):
        if isinstance(answer, Exception) or not answer[2] or answer[3]:
            continue  # it is not there any more
        arbiter = _arbiter_of(answer[0])
        if arbiter == NO_ARBITER or arbiter in arbiters:
            continue
        host = text_of(answer[1] or b"") or "?"
        found.append(ForeignWorker(key.removeprefix(worker_key("")), host, arbiter))
    return found


def _arbiter_of(raw: bytes | None) -> str:
    try:
        return Owner.parse(text_of(raw or b"") or "").arbiter
    except ValueError:
        return ""
