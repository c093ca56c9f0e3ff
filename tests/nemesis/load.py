"""The jobs: what they do, and what of them is enqueued, a pure function of the seed.

Every attempt writes `start` into the ledger, and how it ended: `end`, `raised`, or `cut` when an
interrupt raised in it; nothing when its process died. `overlap`: another attempt of the id ran.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rq import get_current_job

from harness.ledger import sole, write

QUEUES = ("high", "half", "rest")
"""Served by all workers, by half of them, and as `*`."""

RETRIES = 2
"""Of those that are told to fail."""


@contextlib.contextmanager
def attempt() -> Iterator[Any]:
    """Around what a job does; gives the job."""
    job = get_current_job()
    assert job is not None
    name = os.urandom(4).hex()
    with sole(job.id) as alone:
        write(job.id, name, "start")
        if not alone:
            write(job.id, name, "overlap")
        try:
            yield job
        except BaseException as error:
            write(job.id, name, "cut" if isinstance(error, SystemExit) else "raised")
            raise
        write(job.id, name, "end")


def quick() -> None:
    with attempt():
        pass


def sleep(seconds: float) -> None:
    with attempt():
        time.sleep(seconds)


def spin(seconds: float) -> None:
    """Uses the CPU."""
    with attempt():
        until = time.thread_time() + seconds
        while time.thread_time() < until:
            pass


def fail(seconds: float) -> None:
    """Fails each time."""
    with attempt():
        time.sleep(seconds)
        raise ValueError("told to fail")


def fail_at_first(retries: int) -> None:
    """Fails while it has all its retries left."""
    with attempt() as job:
        if job.retries_left == retries:
            raise ValueError("told to fail at first")


@dataclass(frozen=True)
class Order:
    """One job to enqueue."""

    job_id: str
    queue: str
    function: Any
    arguments: tuple[Any, ...] = ()
    retries: int = 0
    parent: str | None = None

    @property
    def fails(self) -> bool:
        return self.function is fail


def make_load(seed: int, count: int) -> list[Order]:
    """Jobs of all kinds, mixed over the queues. A parent comes before its dependents."""
    dice = random.Random(f"jobs {seed}")
    orders: list[Order] = []
    for number in range(count):
        job_id = f"n{seed}-{number}"
        queue = dice.choice(QUEUES)
        short, kind = round(dice.uniform(0.01, 0.3), 3), dice.random()
        parent = None
        if kind < 0.36:
            function, arguments, retries = quick, (), 0
        elif kind < 0.58:
            function, arguments, retries = sleep, (short,), 0
        elif kind < 0.66:
            function, arguments, retries = spin, (short / 5,), 0
        elif kind < 0.74:
            function, arguments, retries = fail, (short / 10,), RETRIES
        elif kind < 0.82:
            function, arguments, retries = fail_at_first, (3,), 3
        elif kind < 0.90:
            function, arguments, retries = sleep, (short,), 3
        else:
            function, arguments, retries = sleep, (short / 5,), 0
            parent = dice.choice(orders[-8:]).job_id if orders else None
        orders.append(Order(job_id, queue, function, arguments, retries, parent))
    return orders
