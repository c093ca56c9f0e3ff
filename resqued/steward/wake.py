"""Wakes idle workers that sleep although there is a job for them.

Of the idle workers with the same queues only one, the leader, waits for a push. If it is stopped or
swapped out, it misses the push and the others sleep on. So the steward looks once a second whether
a queue has jobs while a worker that serves it is idle.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Collection
from typing import Any, Final

import redis
from rq.queue import Queue
from rq.suspension import WORKERS_SUSPENDED

from resqued import linux
from resqued.broker.limits import QueueLimits
from resqued.broker.owner import QUEUE
from resqued.broker.queues import REST, known_queues
from resqued.config import Config
from resqued.scoreboard import Phase, Record, Scoreboard, Seen
from resqued.signal_table import COMMAND
from resqued.steward.measure import Look
from resqued.steward.pauses import PausedQueues
from resqued.steward.registration import WorkerRegistrations

_SPARE: Final = 3  # workers that are woken beyond the number of jobs: some may be stopped
_NOT_AGAIN: Final = 60.0  # seconds that a worker is left alone which was awake and took nothing
_TIMES: Final = 3  # in a row that this has to be seen: another job may have come meanwhile


class Wake:
    """Finds and signals such workers. Runs in the steward."""

    def __init__(
        self,
        connection: redis.Redis,
        board: Scoreboard,
        config: Config,
        registration: WorkerRegistrations,
        paused: PausedQueues,
        limits: QueueLimits,
    ) -> None:
        self._limits = limits
        self._connection = connection
        self._paused = paused
        self._board = board
        self._rest = any(queue.name == REST for queue in config.queues)
        self._registration = registration
        self._seen: dict[int, Seen] = {}  # records, as of the last look
        self._all: set[str] = set()  # queues that RQ knows
        self._known: Any = 0  # how many
        # By pid and queue: when, and how many jobs it had done; how often in vain; until when.
        self._woken: dict[tuple[int, str], tuple[float, int]] = {}
        self._in_vain: dict[tuple[int, str], int] = {}
        self._left_alone: dict[tuple[int, str], float] = {}

    def look(self, seen: Look | None) -> bool:
        """Wake workers; return whether `rq suspend` is in force. seen: a look of just now at all
        queues, which saves one. Raises redis errors."""
        idle = self._idle()
        if seen is None:
            return self._look(idle)
        if self._rest:
            self._all = set(seen.waiting)
        if idle and not seen.suspended and any(seen.waiting.values()):
            self._wake(idle, {name: seen.waiting.get(name, 0) for name in self._served(idle)})
        return seen.suspended

    def _served(self, idle: list[Record]) -> list[str]:
        """Queues that these workers serve, and from which they may take."""
        served = {self._registration.queues_of(record) for record in idle}
        every = {name for queues in served for name in queues}
        return sorted((every | self._all) - self._paused.names)

    def _look(self, idle: list[Record]) -> bool:
        names = self._served(idle) if idle else []
        with self._connection.pipeline(transaction=False) as pipeline:
            pipeline.exists(WORKERS_SUSPENDED)
            pipeline.scard(Queue.redis_queues_keys)
            if names:
                pipeline.exists(*(QUEUE + name for name in names))
            suspended, known, *rest = pipeline.execute(raise_on_error=False)
        for answer in (suspended, *rest):
            if isinstance(answer, Exception):
                raise answer
        if self._rest and known != self._known:
            self._all, self._known = set(known_queues(self._connection, Queue)), known
        if not suspended and rest and rest[0]:
            self._wake(idle, self._count(names))
        return bool(suspended)

    def wake_all(self, names: Collection[str]) -> None:
        """Have all idle workers look again that serve one of these queues, which were resumed."""
        if not names:
            return
        for record in self._idle():
            if any(self._serves(record, name) for name in names):
                _signal(record)

    def _idle(self) -> list[Record]:
        """The workers that are idle by their records. Whether the process lives is checked only
        when it is woken: for all of them it would take most of the steward's time."""
        look, before = self._board.read_again, self._seen
        self._seen = {slot: look(slot, before.get(slot)) for slot in self._board.used()}
        return [record for _, record in self._seen.values() if record.phase is Phase.IDLE]

    def _serves(self, record: Record, name: str) -> bool:
        return name in self._registration.queues_of(record) or name in self._all

    def _count(self, names: list[str]) -> dict[str, int]:
        """Jobs that wait, by queue."""
        with self._connection.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.llen(QUEUE + name)
            lengths: list[Any] = pipeline.execute(raise_on_error=False)
        pairs = zip(names, lengths, strict=True)
        return {name: length for name, length in pairs if isinstance(length, int)}

    def _wake(self, idle: list[Record], counted: dict[str, int]) -> None:
        now = time.monotonic()
        room = self._limits.room(self._connection, [name for name in counted if counted[name]])
        waiting = {
            name: least
            for name, length in counted.items()
            if (least := min(length, room.get(name, length)))
        }
        self._note_in_vain(idle, waiting, now)
        woken: set[int] = set()
        for name, length in waiting.items():
            sleepers = [
                record
                for record in idle
                if self._serves(record, name)
                and record.pid not in woken
                and (record.pid, name) not in self._left_alone
            ]
            for record in random.sample(sleepers, min(len(sleepers), length + _SPARE)):
                woken.add(record.pid)
                self._woken[record.pid, name] = now, record.done
                _signal(record)

    def _note_in_vain(self, idle: list[Record], waiting: dict[str, int], now: float) -> None:
        """Leave alone workers that were woken several times and took no job of that queue."""
        records = {record.pid: record for record in idle}
        in_vain: dict[tuple[int, str], int] = {}
        for key, (at, done) in self._woken.items():
            record = records.get(key[0])
            if record and key[1] in waiting and record.heartbeat > at and record.done == done:
                in_vain[key] = self._in_vain.get(key, 0) + 1
        self._in_vain = in_vain
        self._left_alone = {key: end for key, end in self._left_alone.items() if end > now}
        for key, times in in_vain.items():
            if times >= _TIMES:
                self._left_alone[key] = now + _NOT_AGAIN
        self._woken.clear()


def _signal(record: Record) -> None:
    """Send COMMAND, on which a worker looks for jobs; by a pidfd, so that no other process gets
    it."""
    with contextlib.suppress(OSError):  # it is gone, or such calls are forbidden here
        fd = os.pidfd_open(record.pid)
        try:
            if linux.lives(record.pid, record.ticks):
                signal.pidfd_send_signal(fd, COMMAND)
        finally:
            os.close(fd)
