"""How a process goes on while Redis does not answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from resqued.broker.connection import Outage, until_answered
from resqued.config import Config

T = TypeVar("T")


class RetryPolicy:
    """A worker's: it waits as long as it takes.

    turn: says that the process is alive, and not stuck; given seconds, for so much longer than
    usual.
    """

    def __init__(self, config: Config, turn: Callable[[float], None]) -> None:
        self.config = config
        self._turn = turn

    def turn(self) -> None:
        """Alive, and not stuck. Called after each failure, and between the parts of long work."""
        self._turn(0.0)

    def allow(self, seconds: float) -> None:
        """The same, before what may take so many seconds: user code, the end of processes."""
        self._turn(seconds)

    def outage(self) -> Outage:
        """One stretch of time without Redis, which begins at its first `wait`."""
        return Outage(self.config)

    def until_answered(self, call: Callable[[], T]) -> T:
        """Call until Redis has answered; the answer."""
        return until_answered(call, self.outage(), self.turn)
