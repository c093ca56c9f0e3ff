"""A duty of the steward: something to be done every so often, by itself.

What only one duty meets, an odd entry that nobody has foreseen or a command that it may not use,
is told once and does not keep the steward from the others.
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
"""Seconds, at most, by which one is done sooner than it is due, together with another, so that the
steward need not wake for each."""

_PATIENCE: Final = 5.0
"""Seconds until a duty that has failed by itself is tried again, at least."""


@dataclass
class Duty:
    """name: for the log. every, due: seconds; due on the monotonic clock."""

    name: str
    do: Callable[[], None]
    every: float
    due: float = 0.0

    def attempt(self) -> None:
        """Do it, if it is due, or soon will be. Raises redis errors that concern all duties; it is
        due again then, at once."""
        if time.monotonic() < self.due - min(_TOGETHER, self.every / 10):
            return
        pause = self.every
        try:
            self.do()
        except Exception as error:
            if isinstance(error, NO_ANSWER) and not affects_one_entry(error):
                raise
            pause = max(pause, _PATIENCE)
            what = describe_error(error)
            log_once(f"{self.name} {what}", f"the steward cannot {self.name}: {what}; it goes on")
            logger.opt(exception=True).debug(f"the steward cannot {self.name}")
        self.due = time.monotonic() + pause
