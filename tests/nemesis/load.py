"""The jobs: what they do, and what of them is enqueued, a pure function of the seed.

Every attempt writes `start` into the ledger, and how it ended: `end`, `raised`, or `cut` when an
interrupt raised in it; nothing when its process died. `overlap`: another attempt of the id ran.
`called`: a callback of the job was.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rq import get_current_job

from harness.ledger import sole, write

QUEUES = ("high", "half", "rest")
"""Served by all workers, by half of them, and as `*`."""

STOCK = "stock"
"""Where stock workers serve beside resqued: what is lost there may be lost by them."""

RETRIES = 2
"""Of those that are told to fail."""

REPEATS = 2
"""How often a job that is to be repeated runs again."""


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


def note_success(job: Any, connection: Any, result: Any) -> None:
    """A callback."""
    write(job.id, "-", "called")


def note_failure(job: Any, connection: Any, *error: Any) -> None:
    """A callback."""
    write(job.id, "-", "called")


@dataclass(frozen=True)
class Order:
    """One job to enqueue."""

    job_id: str
    queue: str
    function: Any
    arguments: tuple[Any, ...] = ()
    retries: int = 0
    parents: tuple[str, ...] = ()
    patient: bool = False
    """Runs when its parents are done, also if they have failed."""
    repeats: int = 0
    callbacks: bool = False
    expires: bool = False
    """Its result is not kept: once it has succeeded it is nowhere."""

    @property
    def fails(self) -> bool:
        return self.function is fail


def make_load(seed: int, count: int, queues: Sequence[str] = QUEUES) -> list[Order]:
    """Jobs of all kinds, mixed over the queues. A parent comes before its dependents."""
    dice = random.Random(f"jobs {seed}")
    orders: list[Order] = []
    for number in range(count):
        job_id = f"n{seed}-{number}"
        queue = dice.choice(queues)
        short, kind = round(dice.uniform(0.01, 0.3), 3), dice.random()
        plain = Order(job_id, queue, sleep, (short / 5,))
        if kind < 0.30:
            order = replace(plain, function=quick, arguments=())
        elif kind < 0.48:
            order = replace(plain, arguments=(short,), callbacks=dice.random() < 0.5)
        elif kind < 0.54:
            order = replace(plain, function=spin)
        elif kind < 0.62:
            order = replace(plain, function=fail, arguments=(short / 10,), retries=RETRIES)
            order = replace(order, callbacks=dice.random() < 0.5)
        elif kind < 0.69:
            order = replace(plain, function=fail_at_first, arguments=(3,), retries=3)
        elif kind < 0.76:
            order = replace(plain, arguments=(short,), retries=3)
        elif kind < 0.82:
            order = replace(plain, repeats=REPEATS)
        elif kind < 0.88:
            order = replace(plain, expires=True)
        elif kind < 0.95:
            parents = _parents(orders[-8:])
            order = replace(plain, parents=(dice.choice(parents),) if parents else ())
        else:
            parents = _parents(orders[-12:])
            chosen = dice.sample(parents, min(3, len(parents)))
            order = replace(plain, parents=tuple(chosen), patient=True)
        orders.append(order)
    return orders


def _parents(orders: Sequence[Order]) -> list[str]:
    """Those that a job may wait for: RQ refuses to wait for one that is gone, and what stock
    workers have lost never ends."""
    return [order.job_id for order in orders if not order.expires and order.queue != STOCK]
