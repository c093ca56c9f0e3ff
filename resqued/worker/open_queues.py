"""Which queues a worker may take from: those that are not paused."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import redis
from redis.exceptions import NoPermissionError
from rq.queue import Queue

from resqued.broker.bad_data import log_once
from resqued.broker.pauses import read_pauses
from resqued.scoreboard import Scoreboard

_EVERY: Final = 1.0
"""Seconds between two looks into Redis of a worker whose steward tells it nothing."""


class OpenQueues:
    """The open queues of one worker. Used in its main thread. heed: called with the workers that
    do not obey limits, by queue, when they change.

    The steward tells on the scoreboard which queues are paused. A worker without an arbiter, and
    one that starts before the steward has told anything, looks into Redis itself.
    """

    def __init__(
        self,
        connection: redis.Redis,
        board: Scoreboard,
        heed: Callable[[Mapping[str, Sequence[str]]], None],
        *,
        alone: bool,
    ) -> None:
        self._heed = heed
        self._connection = connection
        self._paused = board.paused
        self._alone = alone
        self._sequence = 0
        self._names: frozenset[str] = frozenset()
        self._due = 0.0

    def refresh(self) -> None:
        """Look into Redis where nobody else does. Raises redis errors."""
        if self._paused.sequence and not self._alone:
            return
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + _EVERY
        try:
            self._names = frozenset(read_pauses(self._connection))
        except NoPermissionError as error:  # no rights: then nobody can have paused anything for it
            log_once("paused", f"the paused queues cannot be read, so all are open: {error}")

    @property
    def patience(self) -> float:
        """Seconds that the worker may wait: nobody tells it when a queue is resumed."""
        told = self._paused.sequence and not self._alone
        return math.inf if told or not self._names else _EVERY

    def of(self, queues: list[Queue]) -> list[Queue]:
        """Those that are open, in the same order; maybe none. Makes no system call."""
        if self._paused.sequence != self._sequence:
            self._read()
        if not self._names:
            return queues
        return [queue for queue in queues if queue.name not in self._names]

    def _read(self) -> None:
        self._sequence = self._paused.sequence
        told = self._paused.read()
        self._names = frozenset(told.get("queues", ()))
        self._heed(told.get("guests", {}))
