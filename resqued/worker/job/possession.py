"""Whether a job that a worker has taken is still its own."""

from __future__ import annotations

from resqued import linux
from resqued.broker.claims import Taken, Taker
from resqued.config import Config
from resqued.logs import logger


class Possession:
    """Of one worker. Who stands still for long, because its machine was suspended or because it was
    stopped, is taken for dead, and what it had taken is put back."""

    def __init__(self, taker: Taker, config: Config) -> None:
        self._taker = taker
        self._longest = min(config.dead_after / 4, config.loop_timeout / 2)
        self.looked_at = 0.0
        """When the last look at the queues began, on the clock that goes on in a suspended
        machine."""

    @property
    def is_doubtful(self) -> bool:
        """Whether so much time has passed since the look that others may take the worker for
        dead."""
        return linux.boot_clock() - self.looked_at > self._longest

    def is_lost(self, taken: Taken) -> bool:
        """Whether it is somebody else's by now; told. Raises redis errors."""
        if not self.is_doubtful or self._taker.holds(taken):
            return False
        tell_lost(taken.job_id)
        return True


def tell_lost(job_id: str) -> None:
    """In the log."""
    logger.warning(f"job={job_id} was put back by another worker; leaving it")
