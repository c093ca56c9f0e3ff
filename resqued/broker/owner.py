"""Who holds which job, as written in Redis: enough to recover a job when its worker is gone.

Two hashes without expiry: CLAIMS names who has claimed a job and not begun it, RUNNING who runs it.
The scripts and transactions that claim, begin and end a job write them, so that every job in flight
is listed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Self

import redis
from rq.defaults import RQ_KEY_PREFIX
from rq.queue import Queue
from rq.worker import BaseWorker

from resqued import linux
from resqued.broker.bad_data import parse_json
from resqued.broker.hand import RUNNING as RUNNING
from resqued.scoreboard import Record

CLAIMS: Final = f"{RQ_KEY_PREFIX}:resqued:claims"
"""Hash: from an owner to `JOB_ID QUEUE_KEY` of the job that it has claimed and not begun."""

ARBITERS: Final = f"{RQ_KEY_PREFIX}:resqued:arbiters"
"""Hash: from an arbiter's identity to what its steward writes at every heartbeat."""

OWNER: Final = "resqued_owner"
"""Field of a worker's hash in RQ: which process it is, and on which machine."""

GENERATION: Final = "resqued_generation"
"""Field of a worker's hash in RQ: of which generation of its arbiter it is."""

QUEUE: Final = Queue.redis_queue_namespace_prefix
"""Prefix of the keys of queues."""

_QUEUE: Final = f" {QUEUE}".encode()

NO_ARBITER: Final = "-"
"""In the place of the arbiter, for a worker without one (`rq worker -w ...`)."""


@dataclass(frozen=True)
class Owner:
    """One worker process, on any machine."""

    arbiter: str  # its identity, NO_ARBITER
    machine: str  # as `linux.machine` has it
    name: str  # of the worker in RQ
    pid: int
    ticks: int  # as `linux.birth_ticks` has it

    def __str__(self) -> str:
        return f"{self.arbiter} {self.machine} {self.pid} {self.ticks} {self.name}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError for what `str` would not have produced."""
        arbiter, machine, pid, ticks, name = text.split(" ", 4)
        return cls(arbiter, machine, name, int(pid), int(ticks))

    @property
    def life(self) -> linux.Life:
        """Whether the process lives. Valid only on its own machine."""
        return linux.life(self.pid, self.ticks)


def worker_key(name: str) -> str:
    """The key of a worker's hash in RQ."""
    return f"{BaseWorker.redis_worker_namespace_prefix}{name}"


def owner_of(record: Record, arbiter: str) -> Owner:
    """The owner for a worker of this machine. arbiter: its identity; empty: it has none."""
    return Owner(arbiter or NO_ARBITER, linux.machine(), record.name, record.pid, record.ticks)


def split_claim(raw: bytes) -> tuple[bytes, bytes]:
    """Job id and queue key of a value of CLAIMS. Either may contain spaces."""
    at = raw.find(_QUEUE)
    job_id, queue_key = (raw[:at], raw[at + 1 :]) if at >= 0 else raw.partition(b" ")[::2]
    return job_id, queue_key


def add_running(pipeline: redis.Redis, execution: Any, owner: Owner, queue: str) -> None:
    """Add to the transaction that makes an execution: list it in RUNNING. queue: its name."""
    pipeline.hset(RUNNING, execution.composite_key, json.dumps([str(owner), queue]))


def remove_running(pipeline: redis.Redis, execution: Any) -> None:
    """Add to the transaction that ends an execution: remove it from RUNNING."""
    pipeline.hdel(RUNNING, execution.composite_key)


def parse_running(raw: str | bytes) -> tuple[Owner, str]:
    """Owner and queue of a value of RUNNING. Raises ValueError."""
    plain = parse_json(raw)
    if not (isinstance(plain, list) and len(plain) == 2 and all(isinstance(s, str) for s in plain)):
        raise ValueError(f"not an entry of {RUNNING}: {raw!r}")
    return Owner.parse(plain[0]), plain[1]
