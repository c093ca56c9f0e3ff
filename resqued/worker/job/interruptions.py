"""Cuts, the exceptions by which signal handlers end a job early, and RQ's timeout."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from types import FrameType
from typing import ClassVar, Final

from rq.timeouts import BaseTimeoutException, UnixSignalDeathPenalty

from resqued.scoreboard import Order
from resqued.signals import DEFAULT, set_handler


class Interrupted(SystemExit):
    """Raised in a job that has to go back to its queue. A SystemExit, since asyncio swallows any
    other BaseException that is raised in a task."""


class Stopped(Interrupted):
    """Raised in a job that a command stops (`rq.command.send_stop_job_command`)."""


class Killed(Interrupted):
    """Raised in a job whose horse a command kills (`send_kill_horse_command`): it fails."""


class Failed(Interrupted):
    """Raised in a job that the verdict Fail of `worker_stuck` ends: it fails, without a retry."""


STRENGTH: Final = (Interrupted, Killed, Failed, Stopped)
"""Of several cuts the strongest counts: a job that is stopped must not go back to its queue."""

ORDERS: Final[Mapping[type[Interrupted], Order]] = {
    Killed: Order.KILL,
    Failed: Order.FAIL,
    Stopped: Order.STOP,
}
"""The order behind a cut; none behind Interrupted."""

NO_REASON: Final = "Failed by a verdict of worker_stuck"
"""What a job fails with if the verdict's own reason is empty, or not known any more."""


def has_timed_out(error: BaseException | None) -> bool:
    """Whether this error is RQ's timeout, or was caused by it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, BaseTimeoutException):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


class DeathPenalty(UnixSignalDeathPenalty):
    """RQ's timeout, set without `signal.signal`, which is slow."""

    raised: ClassVar[list[BaseException] | None] = None
    """Gets the timeouts that are raised; None: nobody keeps them."""

    def handle_death_penalty(self, signum: int, frame: FrameType | None) -> None:
        """Raise the timeout. In a signal handler."""
        try:
            super().handle_death_penalty(signum, frame)
        except BaseException as error:
            if DeathPenalty.raised is not None:
                DeathPenalty.raised.append(error)
            raise

    def setup_death_penalty(self) -> None:
        set_handler(signal.SIGALRM, self.handle_death_penalty)
        signal.alarm(self._timeout)

    def cancel_death_penalty(self) -> None:
        signal.alarm(0)
        set_handler(signal.SIGALRM, DEFAULT)
