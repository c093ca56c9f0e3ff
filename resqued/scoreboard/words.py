"""The arbiter's words to workers on the scoreboard, and the steward's status there."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Self


class Word(enum.IntEnum):
    """A word of the arbiter. Job code can write over it: an unknown value is read as 0."""

    @classmethod
    def _missing_(cls, value: object) -> Self:
        return cls(0)


class Stop(Word):
    """The stop word: what the arbiter wants of a worker."""

    NONE = 0
    DRAIN = 1  # finish the job, then leave
    NOW = 2  # interrupt the job, put it back, leave


class StopCause(Word):
    """Why the arbiter wants a worker to leave; written before the stop word."""

    NONE = 0
    STOP = 1  # the arbiter leaves
    REST = 2  # the arbiter stays without workers
    RELOAD = 3  # another generation is in service
    PLAN = 4  # its number is to serve other queues
    SCALE = 5  # there are to be fewer workers
    RECYCLE = 6  # a verb has asked for another in its place
    STUCK = 7  # by a verdict of `worker_stuck`
    SHUTDOWN = 8  # by RQ's command shutdown
    ORPHANED = 9  # its fork server is gone
    TRIAL = 10  # it was a trial worker, and is not needed any more

    @property
    def word(self) -> str:
        """For events, hooks and JSON: `reload`; empty: none."""
        return "" if self is StopCause.NONE else self.name.lower()


class Order(Word):
    """What is to happen to one execution of a job: a command (`rq.command`), or a verdict. The
    arbiter writes it."""

    NONE = 0
    STOP = 1  # stop-job, stop-execution: it must not be retried
    KILL = 2  # kill-horse: it fails, or is retried
    FAIL = 3  # the verdict Fail of `worker_stuck`: it fails with a reason, and is not retried

    @property
    def is_final(self) -> bool:
        """Whether the job must not run again."""
        return self in (Order.STOP, Order.FAIL)


@dataclass(frozen=True)
class StewardStatus:
    """The steward's part of the header. Times are seconds on the monotonic clock; 0: never."""

    serial: int = 0  # of the newest steward that has said hello
    suspended: bool = False  # `rq suspend` is in force
    turned: float = 0.0  # when its loop last turned
    beaten: float = 0.0  # when Redis last took the heartbeats of all workers
    asked: float = 0.0  # when it last asked for RQ's maintenance

    def is_fresh(self, now: float, patience: float) -> bool:
        """Whether all workers had a heartbeat within `patience` seconds."""
        return self.beaten > 0 and now - self.beaten <= patience
