"""Which faults strike, and when: a pure function of the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

WEIGHTS = {
    "worker": 30,
    "fork server": 7,
    "steward": 4,
    "arbiter": 4,
    "TERM": 4,
    "HUP": 6,
    "USR2": 3,
    "TTIN": 5,
    "TTOU": 5,
    "cut": 8,
    "kick": 4,
    "lost reply": 10,
    "lost command": 4,
    "refuse": 4,
    "freeze": 4,
    "restart": 3,
    "power": 2,
    "read-only": 3,
    "suspend": 3,
    "stop": 6,
}
"""How often each fault is chosen, relative to the others.

The first four are SIGKILL. cut, refuse: the way to Redis is cut, and for a while closed. kick:
the server drops all clients. lost reply, lost command: one command is carried out, or is not,
and nobody hears of it. freeze: the server is stopped. restart, power: it is ended by TERM or
KILL, and started again. read-only: the server becomes a replica for a while, as when a failover
takes the name along. suspend: `rq suspend`, for a while. stop: SIGSTOP to one of the processes, and
SIGCONT. What ends is always started again.
"""

LONGEST = 2.0
"""Seconds that Redis is away at most."""


@dataclass(frozen=True)
class Fault:
    delay: float
    """Seconds after the one before."""
    kind: str
    parameter: float
    """From 0 to 1: which of several it strikes, or how long it lasts."""


def make_plan(seed: int, seconds: float, every: float = 0.35) -> list[Fault]:
    """Faults for so many seconds, on average one in `every`."""
    dice = random.Random(f"faults {seed}")
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    plan: list[Fault] = []
    left = seconds
    while True:
        delay = min(dice.expovariate(1 / every), 4 * every)
        left -= delay
        if left < 0:
            return plan
        plan.append(Fault(delay, dice.choices(kinds, weights)[0], dice.random()))
