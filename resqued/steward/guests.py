"""Finds the workers that do not obey limits, so that room is left for them.

RQ's own workers take a job whenever they have none. While one that serves a queue with a limit has
no job, the workers of resqued take one fewer: then it does not exceed the limit when it takes one.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Any, Final

import redis
from rq.command import PUBSUB_CHANNEL_TEMPLATE
from rq.worker import WorkerStatus
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from resqued.broker.bad_data import affects_one_entry, text_of
from resqued.broker.fleet import FLEET
from resqued.broker.owner import NO_ARBITER, OWNER, Owner, worker_key

_ALL: Final = 10.0
"""Seconds after which all workers of the queues are listed again, though their number is the
same."""

_PREFIX: Final = worker_key("")


class Guests:
    """The guests of the queues with limits, as of the last look. Runs in the steward. names: of
    these queues. identity: the arbiter's."""

    def __init__(self, connection: redis.Redis, names: Iterable[str], identity: str) -> None:
        self._connection = connection
        self._names = sorted(names)
        self._identity = identity
        self._counts: list[Any] = []
        self._due = 0.0
        self._members: dict[str, set[str]] = {}  # keys of workers, by queue
        self._obeying: set[str] = set()  # those of them that are known to obey

    def look(self) -> dict[str, list[str]]:
        """The names of the guests of each queue that has any. Raises redis errors."""
        if not self._names:
            return {}
        self._list_workers()
        unknown = sorted(set().union(*self._members.values()) - self._obeying)
        present = self._present(unknown) if unknown else set()
        found = {
            name: sorted(key.removeprefix(_PREFIX) for key in self._members[name] & present)
            for name in self._names
        }
        return {name: guests for name, guests in found.items() if guests}

    def _list_workers(self) -> None:
        """List the workers of the queues, if their number has changed, or it is time."""
        now = time.monotonic()
        counts = self._ask_all(lambda pipeline, key: pipeline.scard(key))
        if counts == self._counts and now < self._due:
            return
        self._counts, self._due = counts, now + _ALL
        members = self._ask_all(lambda pipeline, key: pipeline.smembers(key))
        self._members = {
            name: set(filter(None, map(text_of, keys))) if isinstance(keys, set) else set()
            for name, keys in zip(self._names, members, strict=True)
        }
        self._obeying &= set().union(*self._members.values())

    def _ask_all(self, ask: Any) -> list[Any]:
        with self._connection.pipeline(transaction=False) as pipeline:
            for name in self._names:
                ask(pipeline, WORKERS_BY_QUEUE_KEY % name)
            return _checked(pipeline.execute(raise_on_error=False))

    def _present(self, keys: list[str]) -> set[str]:
        """Those of these workers that are guests and live; the others that obey are noted. A
        worker listens for commands as long as its process lives."""
        with self._connection.pipeline(transaction=False) as pipeline:
            pipeline.hkeys(FLEET)
            pipeline.pubsub_numsub(
                *(PUBSUB_CHANNEL_TEMPLATE % key.removeprefix(_PREFIX) for key in keys)
            )
            for key in keys:
                pipeline.hmget(key, OWNER, "birth", "death", "state")
            fleet, hearing, *workers = _checked(pipeline.execute(raise_on_error=False))
        arbiters = {self._identity, *map(text_of, fleet if isinstance(fleet, list) else [])}
        counts = [count for _, count in hearing] if isinstance(hearing, list) else [1] * len(keys)
        found = set()
        for key, fields, count in zip(keys, workers, counts, strict=True):
            if not isinstance(fields, list):
                continue
            owner, birth, death, state = fields
            if _obeys(owner, arbiters):
                self._obeying.add(key)
            elif birth and not death and count and state != WorkerStatus.SUSPENDED.value.encode():
                found.add(key)
        return found


def _obeys(owner: bytes | None, arbiters: Collection[str | None]) -> bool:
    """Whether the worker belongs to one of these arbiters."""
    try:
        arbiter = Owner.parse(text_of(owner or b"") or "").arbiter
    except ValueError:
        return False
    return arbiter != NO_ARBITER and arbiter in arbiters


def _checked(answers: list[Any]) -> list[Any]:
    """Answers of a pipeline. Raises those that concern more than one key."""
    for answer in answers:
        if isinstance(answer, Exception) and not affects_one_entry(answer):
            raise answer
    return answers
