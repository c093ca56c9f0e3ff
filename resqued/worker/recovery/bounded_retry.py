"""How long a recovery waits for Redis: not so long that the fork server kills it as hanging."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from resqued import logs
from resqued.broker.bad_data import describe_error, is_data_error
from resqued.broker.outages import NO_ANSWER, Outage, RetryPolicy
from resqued.config import Config
from resqued.logs import LogEvent, logger

T = TypeVar("T")

PATIENCE: Final = 240.0
"""Seconds that one recovery waits for Redis."""

TRIES: Final = 3
"""How often a recovery may fail because of the job's own data, or of a user's class."""


class Unanswered(BaseException):
    """Redis has not answered within PATIENCE."""


class _Outage(Outage):
    """An outage with an end, after which `wait` raises Unanswered."""

    ends = 0.0

    def wait(self, error: BaseException) -> None:
        if time.monotonic() >= self.ends:
            raise Unanswered
        super().wait(error)


class BoundedRetry(RetryPolicy):
    """The retry policy of a recovery, which the fork server limits as a whole."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, lambda more: None)
        self._ends = time.monotonic() + PATIENCE

    def outage(self) -> Outage:
        outage = _Outage(self.config, seen_elsewhere=lambda: True)  # by the steward
        outage.ends = self._ends
        return outage

    def until_answered(self, call: Callable[[], T]) -> T:
        """Raises Unanswered, and errors due to the job's own data."""
        outage = self.outage()
        while True:
            try:
                answer = call()
            except NO_ANSWER as error:
                if is_data_error(error):
                    raise
                outage.wait(error)
            else:
                outage.over()
                return answer

    def attempt(
        self, step: Callable[[], None], give_up: Callable[[BaseException], None] | None, who: str
    ) -> None:
        """Take a step until Redis has answered; a few times if the job's data cause errors.
        give_up: called if they persist. who: the worker's name, for the log. Raises Unanswered."""
        problem: BaseException
        for tries in range(1, TRIES + 1):
            try:
                self.until_answered(step)
                return
            except (Exception, SystemExit) as error:
                logs.warning(
                    f"recovery of worker={who} failed {tries} times: {describe_error(error)}",
                    LogEvent.WORKER_NOTICE,
                )
                logger.opt(exception=True).debug("traceback of the failed recovery")
                problem = error
            time.sleep(0.5 * tries)
        if give_up is not None:
            self.until_answered(lambda: give_up(problem))
