"""What a job is cut by: the exceptions that a worker's signals raise in it."""

from __future__ import annotations

import signal
from typing import Final

from rq.timeouts import BaseTimeoutException, UnixSignalDeathPenalty

from resqued.signals import DEFAULT, set_handler


class Interrupted(SystemExit):
    """Raised in a job that has to go back to its queue.

    A SystemExit, because asyncio swallows any other BaseException that hits a task.
    """


class Stopped(Interrupted):
    """Raised in a job that somebody stopped (`rq.command.send_stop_job_command`)."""


class Killed(Interrupted):
    """Raised in a job whose horse somebody killed (`send_kill_horse_command`): it fails."""


STRENGTH: Final = (Interrupted, Killed, Stopped)
"""Of several cuts the strongest counts: who stops a job does not want it back in its queue."""


def has_timed_out(error: BaseException | None) -> bool:
    """Whether RQ's timeout is this error, or what led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, BaseTimeoutException):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


class DeathPenalty(UnixSignalDeathPenalty):
    """As RQ's, but for `signal.signal`, which makes an enum of all that it is given and returns."""

    def setup_death_penalty(self) -> None:
        set_handler(signal.SIGALRM, self.handle_death_penalty)
        signal.alarm(self._timeout)

    def cancel_death_penalty(self) -> None:
        signal.alarm(0)
        set_handler(signal.SIGALRM, DEFAULT)
