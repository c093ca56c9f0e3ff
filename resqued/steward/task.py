"""A task: something that the steward does periodically.

An error that concerns one task only, such as an unexpected entry or a forbidden command, is logged
once, and the steward goes on with its other tasks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from resqued.broker.bad_data import affects_one_entry, describe_error, log_once
from resqued.broker.outages import NO_ANSWER
from resqued.logs import logger

_TOGETHER: Final = 0.1
"""Seconds, at most, by which a task is done early, together with another one, to save wake-ups."""

_PATIENCE: Final = 5.0
"""Seconds, at least, until a failed task is tried again."""


@dataclass
class Task:
    """name: for the log. do: may return the seconds until it is to be called again, in the place of
    `every`. every, due: seconds; due on the monotonic clock."""

    name: str
    do: Callable[[], float | None]
    every: float
    due: float = 0.0
    early: float = _TOGETHER  # seconds by which it may be done early

    def attempt(self) -> None:
        """Do it if it is due, or soon will be. Raises redis errors that concern all tasks; the
        task stays due then."""
        if time.monotonic() < self.due - min(self.early, self.every / 10):
            return
        pause = self.every
        try:
            asked = self.do()
        except Exception as error:
            if isinstance(error, NO_ANSWER) and not affects_one_entry(error):
                raise
            pause = max(pause, _PATIENCE)
            what = describe_error(error)
            log_once(f"{self.name} {what}", f"the steward cannot {self.name}: {what}; it goes on")
            logger.opt(exception=True).debug(f"the steward cannot {self.name}")
        else:
            pause = self.every if asked is None else asked
        self.due = time.monotonic() + pause
