"""Measures the queues and Redis, and puts the facts on the scoreboard for everybody to read."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import redis
from rq.defaults import RQ_KEY_PREFIX
from rq.queue import Queue
from rq.suspension import WORKERS_SUSPENDED

from resqued.broker.bad_data import affects_one_entry, describe_error
from resqued.broker.outages import NO_ANSWER
from resqued.broker.queues import REST
from resqued.broker.wire import Wire, bulk, read_script
from resqued.config import Config
from resqued.facts import MOST, Facts, QueueMeasure
from resqued.logs import redact
from resqued.scoreboard import Scoreboard
from resqued.steward.rates import Rates
from resqued.steward.unserved import Unserved

EVERY: Final = 1.0
"""Seconds between two looks."""

SLOWLY: Final = 5.0
"""Seconds between two looks at what changes slowly: scheduled and failed jobs, workers."""

SHARE: Final = 0.002
"""Of the time of Redis, at most, that looks take: after one of over 2 ms the next comes later."""

_RAREST: Final = 30.0  # seconds between two looks, at most
_LAST: Final = 5  # looks of which the quickest counts: the machine may be busy with other things
_SCRIPT: Final = read_script("measure")


class Measure:
    """Measures, and writes the facts. Runs in the steward. serial: the steward's; only the newest
    writes."""

    def __init__(
        self, connection: redis.Redis, board: Scoreboard, config: Config, serial: int
    ) -> None:
        self._connection = connection
        self._board = board
        self._wire = Wire(connection, _SCRIPT)
        self._named = [queue.name for queue in config.queues if queue.name != REST]
        self._rates = Rates(board)
        self._unserved = Unserved(self._named)
        self._serial = serial
        self._next = self._slow_at = 0.0
        self._took: deque[float] = deque(maxlen=_LAST)
        now = time.monotonic()
        self.facts = Facts(now, False, now, "", None, False, None, (), 0, 0)
        """Of the last look."""

    def step(self) -> None:
        """Look, if it is time, and publish the facts. Raises redis errors."""
        now = time.monotonic()
        if now < self._next:
            return
        try:
            self.facts = self._look()
        except NO_ANSWER as error:
            if affects_one_entry(error):
                self._note_refusal(error)
            raise
        pause = min(max(EVERY, min(self._took) / SHARE), _RAREST)
        self._next = now + pause - EVERY / 2  # it is called once in EVERY
        self._publish()

    def note_outage(self, error: BaseException) -> None:
        """Redis does not answer."""
        now, before = time.monotonic(), self.facts
        since = now if before.answers or not before.error else before.since
        self.facts = replace(before, measured=now, answers=False, since=since, error=_reason(error))
        self._next = self._slow_at = 0.0
        self._publish()

    def _note_refusal(self, error: BaseException) -> None:
        """Redis answers, but refuses the script."""
        now = time.monotonic()
        since = self.facts.since if self.facts.answers else now
        self.facts = Facts(now, True, since, _reason(error), None, False, None, (), 0, 0)
        self._publish()

    def _look(self) -> Facts:
        began = time.monotonic()
        slowly = began >= self._slow_at
        round_trip = self._ping() if slowly else self.facts.round_trip
        asked = time.monotonic()
        raw = self._wire.ask(self._request(slowly=slowly)).decode(errors="replace")
        now = time.monotonic()
        self._took.append(max(0.0, now - asked - (round_trip or 0.0)))
        if slowly:
            self._slow_at = now + SLOWLY - EVERY / 2
        suspended, rows, others, others_waiting = json.loads(raw)
        before = {queue.name: queue for queue in self.facts.queues}
        self._rates.look(now)
        queues = sorted((self._measured(row, before) for row in rows or ()), key=_name)
        unserved = self._unserved.find(queues, now)
        return Facts(
            measured=now,
            answers=True,
            since=self.facts.since if self.facts.answers else now,
            error="",
            round_trip=round_trip,
            suspended=bool(suspended),
            scheduler=_scheduler(queues),
            queues=tuple(
                replace(queue, unserved=True) if queue.name in unserved else queue
                for queue in queues
            ),
            others=int(others),
            others_waiting=int(others_waiting),
        )

    def _publish(self) -> None:
        if self._board.steward_status().serial == self._serial:
            self._board.facts.write(self.facts.as_plain())

    def _measured(self, row: list[Any], before: Mapping[str, QueueMeasure]) -> QueueMeasure:
        """From a row of the script's answer; what changes slowly stays, if it was not asked for."""
        name, waiting, started, enqueued, *slow = row
        old = before.get(name)
        scheduled = failed = served = scheduler = None
        if slow:
            scheduled, failed, served, locked = map(_number, slow)
            scheduler = bool(locked) if scheduled else None
        elif old is not None:
            scheduled, failed, served = old.scheduled, old.failed, old.served
            scheduler = old.scheduler
        return QueueMeasure(
            name,
            waiting,
            _age(enqueued) if enqueued else None,
            _number(started) or 0,
            scheduled,
            failed,
            served,
            scheduler,
            per_minute=self._rates.of(name),
        )

    def _ping(self) -> float:
        began = time.monotonic()
        self._connection.ping()
        return time.monotonic() - began

    def _request(self, *, slowly: bool) -> bytes:
        keys = (Queue.redis_queues_keys, WORKERS_SUSPENDED)
        words: tuple[Any, ...] = (2, *keys, f"{RQ_KEY_PREFIX}:", MOST, int(slowly), *self._named)
        return b"*%d\r\n%b%b" % (2 + len(words), self._wire.evalsha, bulk(words))


def _reason(error: BaseException) -> str:
    return redact(describe_error(error))


def _name(queue: QueueMeasure) -> str:
    return queue.name


def _number(value: Any) -> int | None:
    """None for false, which stands for what could not be read."""
    return None if isinstance(value, bool) else int(value)


def _age(text: str) -> float | None:
    """Seconds since a moment that RQ has written; None if it cannot be read."""
    try:
        moment = datetime.fromisoformat(text)
        return max(0.0, time.time() - moment.timestamp()) if moment.tzinfo else None
    except (ValueError, TypeError, OverflowError):
        return None


def _scheduler(queues: Iterable[QueueMeasure]) -> bool | None:
    known = [queue.scheduler for queue in queues if queue.scheduler is not None]
    return all(known) if known else None
