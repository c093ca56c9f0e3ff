"""What is scheduled, what is cancelled, and what strikes the arbiters: pure functions of the seed.

Times are seconds after the beginning.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import cycle

QUEUES = [f"due-{number}" for number in range(5)]
"""Of the scheduled jobs that the arbiters move."""

STOCK = "stock"
"""The queue of the stock worker, and of its scheduler."""

KILLED, PAUSED, TURNED = "killed", "paused", "turned"
"""The three arbiters."""

_EARLY = 0.7  # share of the jobs that are there before the beginning
_SOON = 5.0  # seconds: the others are scheduled at most so long before they are due
_CANCELLED = 0.1
_BESIDE = 0.25  # seconds between a cancellation and the due time, if it is near

_VICTIMS = {"all": 6, "steward": 2, "duties": 2, "fork server": 1}
"""What is killed of the first arbiter, by weight. `all`: each of its processes."""

_TURNS = ("HUP", "TERM", "USR2", "QUIT")

_PAUSES = (17.0, 90.0, 3.0, 25.0, 62.0, 8.0)
"""Seconds. A lock of RQ's lives for 61."""

_LOCK = 15.0
"""Seconds that a lock of resqued's lives."""


@dataclass(frozen=True)
class Order:
    """A scheduled job. made: when it is scheduled; 0.0: before the beginning. cancelled: when it
    is; None: never."""

    job_id: str
    queue: str
    made: float
    due: int
    cancelled: float | None = None


@dataclass(frozen=True)
class Blow:
    """A fault. delay: after the end of the one before. kind: a signal, a key of the victims, or
    `pause`. lasts: of a pause."""

    delay: float
    kind: str
    lasts: float = 0.0


def make_orders(seed: int, seconds: float, count: int) -> list[Order]:
    """Jobs for the arbiters, and one a second for the stock worker, some of which are cancelled."""
    dice = random.Random(f"orders {seed}")
    ours = [_order(dice, f"due-job-{n}", dice.choice(QUEUES), seconds) for n in range(count)]
    theirs = [_order(dice, f"stock-job-{n}", STOCK, seconds) for n in range(int(seconds))]
    return ours + theirs


def _order(dice: random.Random, job_id: str, queue: str, seconds: float) -> Order:
    due = dice.randrange(1, int(seconds) + 1)
    made = 0.0 if dice.random() < _EARLY else max(0.0, due - dice.uniform(0.0, _SOON))
    cancelled = None
    if dice.random() < _CANCELLED:
        # RQ's own scheduler runs what is cancelled between its look and its transaction
        near = queue != STOCK and dice.random() < 0.5
        cancelled = dice.gauss(due, _BESIDE) if near else dice.uniform(made, due - 2.0)
        if queue == STOCK and cancelled > due - 2.0:
            cancelled = None
    return Order(job_id, queue, made, due, None if cancelled is None else max(made, cancelled))


def make_blows(seed: int, seconds: float, longest: float) -> dict[str, list[Blow]]:
    """For each arbiter; more than there is time for. longest: seconds of a pause, at most."""
    dice = random.Random(f"blows {seed}")
    many = range(int(seconds) + 1)
    turns = cycle(_TURNS)
    lengths = sorted({min(pause, longest) for pause in _PAUSES})
    dice.shuffle(lengths)
    pauses = cycle(sorted(lengths, key=lambda seconds: seconds < _LOCK))  # one may be all
    return {
        KILLED: [
            Blow(dice.uniform(0.3, 9.0), dice.choices([*_VICTIMS], [*_VICTIMS.values()])[0])
            for _ in many
        ],
        PAUSED: [Blow(dice.uniform(2.0, 6.0), "pause", next(pauses)) for _ in many],
        TURNED: [Blow(dice.uniform(1.0, 7.0), next(turns)) for _ in many],
    }
