"""Finds workers that have died with their whole arbiter or machine, by what they hold in Redis.

On the same machine the kernel knows whether a process lives. Another machine is dead when the
entry of its arbiter has not changed for `dead_after` seconds. These are measured on this machine's
monotonic clock, and only while this process ran and Redis answered, so that neither a skewed clock
nor an outage makes a living worker look dead. Two stewards may find the same dead worker: the
recovery of a job takes effect once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import redis
from rq.executions import Execution
from rq.job import Job
from rq.registry import StartedJobRegistry
from rq.worker import BaseWorker

from resqued import linux, logs
from resqued.broker.bad_data import (
    abbreviate,
    hashes,
    is_data_error,
    parse_json,
    text_of,
)
from resqued.broker.executions import is_open
from resqued.broker.hand import HANDS
from resqued.broker.owner import (
    ARBITERS,
    CLAIMS,
    NO_ARBITER,
    OWNER,
    RUNNING,
    Owner,
    worker_key,
)
from resqued.linux import Life
from resqued.logs import LogEvent
from resqued.steward.strays import (
    Left,
    Strays,
    find_unclaimed_hands,
    parse_claims,
    parse_executions,
    pass_over,
)

_DOUBT: Final = 10
"""Factor on `dead_after` for a process of another user: its pid may have been reused."""

BEATS: Final = 4
"""Heartbeats that must be missing, however short `dead_after` is."""


@dataclass
class _Silence:
    """Since when an entry has not changed, as seen from here. Seconds, monotonic."""

    value: Any
    since: float


class DeadWorkers:
    """Checks the owners of all claims and executions. Runs in the steward.

    dead_after: seconds without a heartbeat. strays: finds those of this arbiter's workers.
    """

    def __init__(
        self, connection: redis.Redis, identity: str, dead_after: float, strays: Strays
    ) -> None:
        self.every = min(10.0, max(0.5, dead_after / 12))
        """Seconds between two calls of `look`."""
        self.tidy_every = min(15.0, 3 * self.every)
        """Seconds between two calls of `tidy`."""
        self._connection = connection
        self._identity = identity
        self._dead_after = dead_after
        self._strays = strays
        self._heard: dict[str, _Silence] = {}
        self._looked = 0.0
        self._seen: set[str] = set()  # executions in RUNNING at the last look
        self._logged: set[str] = set()  # dead arbiters that the log has named
        self._registrants: set[str] | None = None  # arbiters whose workers are registered in RQ
        self._holders: set[Owner] = set()  # workers that held a job at the last look

    def look(self) -> list[Left]:
        """Claims and executions of dead workers. Raises redis errors."""
        keys = (ARBITERS, CLAIMS, RUNNING, HANDS)
        arbiters, claims, running, _ = hashes(self._connection, *keys)
        left = [*parse_claims(claims), *parse_executions(running)]
        now = time.monotonic()
        if now - self._looked > 2 * self.every + 1:  # this process was asleep, or without Redis
            self._heard.clear()
            self._strays.clear()
        self._looked = now
        entries = _entries(arbiters)
        self._holders = {each.owner for each in left}
        holding = {owner.arbiter for owner in self._holders}
        self._listen({*entries, *holding, *(self._registrants or ())}, entries, now)
        registered = self._registered(left)
        strays = self._strays.find(left, now)
        dead = [
            each
            for each in left
            if each in strays or self._is_dead(each.owner, entries, registered, now)
        ]
        self._drop_ended(each for each in left if each.execution_id and each not in dead)
        self._forget(entries, holding, now)
        return dead

    def _listen(self, names: Iterable[str], entries: dict[str, dict[str, Any]], now: float) -> None:
        """Note which entries have changed since the last look."""
        heard = {}
        for name in names:
            value = entries.get(name)
            before = self._heard.get(name)
            unchanged = before is not None and before.value == value
            heard[name] = before if before and unchanged else _Silence(value, now)
        self._heard = heard

    def _are_gone(self, lives: set[Life], arbiter: str, now: float) -> bool:
        """Whether processes of an arbiter are gone, by the kernel; if it does not know, by the
        arbiter's heartbeats. lives: what the kernel says of each."""
        if Life.ALIVE in lives or lives == {Life.DEAD}:
            return Life.ALIVE not in lives
        return self._is_silent(arbiter, now, _DOUBT if Life.FOREIGN in lives else 1)

    def _is_silent(self, name: str, now: float, times: int = 1) -> bool:
        """Whether an arbiter's entry has not changed for so many times `dead_after`."""
        silence = self._heard.get(name)
        if silence is None:
            return False
        every = float((silence.value or {}).get("every", 0.0))
        return now - silence.since >= times * max(self._dead_after, BEATS * every)

    def _registered(self, left: list[Left]) -> set[str]:
        """Names of workers without an arbiter that are registered in RQ."""
        names = [each.owner.name for each in left if each.owner.arbiter == NO_ARBITER]
        if not names:
            return set()
        with self._connection.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.exists(worker_key(name))
            return {name for name, there in zip(names, pipeline.execute(), strict=True) if there}

    def _is_dead(
        self, owner: Owner, entries: dict[str, dict[str, Any]], registered: set[str], now: float
    ) -> bool:
        """Whether a worker is dead, and its arbiter too, so that its job must be recovered."""
        if owner.arbiter == self._identity:
            return False  # its parent reports its death; an entry left after that is a stray
        if owner.machine == linux.machine():
            lives = {owner.life, _life(entries.get(owner.arbiter, {}))}
            if Life.ALIVE in lives or owner.arbiter != NO_ARBITER or lives == {Life.DEAD}:
                return self._are_gone(lives, owner.arbiter, now)
        if owner.arbiter == NO_ARBITER:
            return owner.name not in registered
        return self._is_silent(owner.arbiter, now)

    # Tidying.

    def _drop_ended(self, left: Iterable[Left]) -> None:
        """Delete ended executions from RUNNING: by RQ's maintenance, or with their job."""
        standing = {f"{each.job_id}:{each.execution_id}": each for each in left}
        old = sorted(standing.keys() & self._seen)
        self._seen = set(standing)
        if not old:
            return
        with self._connection.pipeline(transaction=False) as pipeline:
            for key in old:
                pipeline.zscore(_registry_of(standing[key]), key)
            scores = pipeline.execute(raise_on_error=False)
        ended = []
        for key, score in zip(old, scores, strict=True):
            if isinstance(score, Exception) and not is_data_error(score):
                raise score
            if not isinstance(score, float) and not self._stands(standing[key]):
                ended.append(key)
        if ended:
            self._connection.hdel(RUNNING, *ended)

    def _stands(self, left: Left) -> bool:
        """Whether an execution has no outcome although RQ's registry does not name it."""
        execution = Execution(left.execution_id, left.job_id, self._connection, left.owner.name)
        return is_open(self._connection, _registry_of(left), Job.key_for(left.job_id), execution)

    def _forget(self, entries: dict[str, dict[str, Any]], holding: set[str], now: float) -> None:
        """Delete entries of dead arbiters that hold nothing and have no registered worker."""
        for name, value in entries.items():
            if name == self._identity:
                continue
            here = value.get("machine") == linux.machine()
            dead = self._are_gone({_life(value) if here else Life.UNKNOWN}, name, now)
            if not dead:
                self._logged.discard(name)
                continue
            if name not in self._logged:
                self._logged.add(name)
                logs.warning(
                    f"arbiter {name} on {value.get('host', 'an unknown host')} is dead",
                    LogEvent.STEWARD_NOTICE,
                )
            if self._registrants is not None and name not in holding | self._registrants:
                self._connection.hdel(ARBITERS, name)

    def tidy(self) -> None:
        """Deregister workers that died with their arbiter. Raises redis errors."""
        listed: Any = self._connection.smembers(BaseWorker.redis_workers_keys)
        keys = sorted(filter(None, map(text_of, listed)))
        own = worker_key(f"{self._identity}.")  # a parent reports the death of these
        registered, keys = set(keys), [key for key in keys if not key.startswith(own)]
        with self._connection.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hget(key, OWNER)
            owners = pipeline.execute(raise_on_error=False)
        arbiters, hands, running = hashes(self._connection, ARBITERS, HANDS, RUNNING)
        entries, now = _entries(arbiters), time.monotonic()
        dropped, registrants = find_unclaimed_hands(
            hands, running, registered, lambda each: self._is_dead(each, entries, {each.name}, now)
        )
        if dropped:
            self._connection.hdel(HANDS, *dropped)
        for key, raw in zip(keys, owners, strict=True):
            if isinstance(raw, Exception) and not is_data_error(raw):
                raise raw
            try:
                owner = Owner.parse(text_of(raw if isinstance(raw, bytes) else b"") or "")
            except ValueError:
                continue  # not a worker of resqued
            dead = self._is_dead(owner, entries, {owner.name}, now)
            if dead and owner not in self._holders:  # else the recovery deregisters it
                self._deregister(key, owner)
            else:
                registrants.add(owner.arbiter)
        if len(keys) < len(registered):
            registrants.add(self._identity)
        self._registrants = registrants

    def _deregister(self, key: str, owner: Owner) -> None:
        queues = text_of(self._connection.hget(key, "queues") or b"") or ""
        worker: Any = BaseWorker(
            [queue for queue in queues.split(",") if queue],
            name=key.removeprefix(BaseWorker.redis_worker_namespace_prefix),
            connection=self._connection,
            prepare_for_work=False,
        )
        worker.register_death()
        self._connection.hdel(HANDS, str(owner))


def _registry_of(left: Left) -> str:
    """The key of RQ's registry of started jobs of the queue."""
    return StartedJobRegistry.key_template.format(left.queue)


def _entries(arbiters: dict[bytes, bytes]) -> dict[str, dict[str, Any]]:
    found = {}
    for field, value in arbiters.items():
        name = text_of(field)
        plain = _entry(value)
        if name is None or plain is None:
            pass_over(ARBITERS, field, value)
        if name is not None:
            found[name] = {"unreadable": abbreviate(value)} if plain is None else plain
    return found


def _entry(raw: bytes) -> dict[str, Any] | None:
    """An arbiter's entry; None for a value that no steward has written."""
    try:
        value = parse_json(raw)
        pid, ticks, every = (value.get(name, 0) for name in ("pid", "ticks", "every"))
        sound = isinstance(pid, int) and isinstance(ticks, int) and math.isfinite(float(every))
    except (ValueError, TypeError, AttributeError, OverflowError):
        return None
    return {**value, "every": float(every)} if sound else None


def _life(value: dict[str, Any]) -> Life:
    """Whether an arbiter of this machine lives, by its entry."""
    if value.get("machine") != linux.machine():
        return Life.DEAD
    return linux.life(value.get("pid", 0), value.get("ticks", 0))
