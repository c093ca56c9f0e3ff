"""Jobs that a worker class was given and did not begin: its `execute_job` returned without.

What becomes of them is the class's affair, as under `rq worker`: it may have queued them elsewhere,
or run them later by itself. So they are claimed no longer, and stay in RQ's intermediate list. RQ's
maintenance fails what stays there for a minute; here that is seen to when the minute is over, and
not at the next maintenance, which may be ten minutes away.
"""

from __future__ import annotations

import time
from typing import Any, Final

from resqued.broker.claims import Taken, Taker, spare_claimed
from resqued.broker.queues import Queues
from resqued.logs import logger

_AT_FIRST: Final = 1.0  # seconds until RQ's maintenance is to notice one
_AGAIN: Final = 61.0  # seconds from there until it may fail it: RQ gives it a minute


class Skipped:
    """Those of one worker. Everything here may raise redis errors."""

    def __init__(self, taker: Taker) -> None:
        self._taker = taker
        self._due: list[tuple[float, str]] = []  # moments, queues' keys
        self._told = False

    def add(self, taken: Taken, cls: type) -> None:
        """One more. cls: of the worker, for the log."""
        self._taker.leave_it()
        now = time.monotonic()
        if not any(key == taken.queue_key for _, key in self._due):
            self._due += [(now + pause, taken.queue_key) for pause in (_AT_FIRST, _AGAIN)]
        logger.log(
            "DEBUG" if self._told else "WARNING",
            f"job={taken.job_id} was not begun: execute_job of {cls.__module__}.{cls.__qualname__}"
            " returned without; if it is not begun or queued within a minute, it fails",
        )
        self._told = True

    def tend(self, worker: Any, queues: Queues) -> None:
        """Have RQ's maintenance look at them, if it is time. worker: RQ's."""
        now = time.monotonic()
        if not self._due or self._due[0][0] > now:
            return
        due = {key for moment, key in self._due if moment <= now}
        spare_claimed(worker.connection)
        for key in due:
            queue = queues.of(key)
            queue.intermediate_queue.cleanup(worker, queue)
        self._due = [each for each in self._due if each[0] > now]
