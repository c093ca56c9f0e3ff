"""Measures the queues and Redis, and puts the facts on the scoreboard for everybody to read."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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
from resqued.facts import MOST, Facts
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

SILENT: Final = 10.0
"""Seconds without a turn after which the steward that measures is taken for gone."""

LONGEST: Final = 1000
"""Characters of a queue's name; one with a longer name is counted among the others."""

_RAREST: Final = 30.0  # seconds between two looks, at most
_LAST: Final = 5  # looks of which the quickest counts: the machine may be busy with other things
_SCRIPT: Final = read_script("measure")

_Slow = tuple[int | None, int | None, int | None, bool | None]
"""Of a queue: jobs scheduled and failed, workers, whether it has a scheduler."""

_UNKNOWN: Final[_Slow] = (None, None, None, None)


@dataclass(frozen=True)
class Look:
    """One look at all queues. at: seconds, monotonic. waiting: jobs, by queue."""

    at: float
    suspended: bool
    waiting: Mapping[str, int]


class Measure:
    """Measures, and writes the facts as `Facts.as_plain` does, without making the objects. Runs in
    the steward. serial: the steward's; only the newest writes."""

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
        self._slow_at = 0.0
        self._slow: dict[str, _Slow] = {}
        self._took: deque[float] = deque(maxlen=_LAST)
        self._seen: Look | None = None
        now = time.monotonic()
        told = board.facts.read()  # by the steward before: it goes on from there
        fresh = Facts(now, False, now, "", None, False, None, (), 0, 0)
        self._plain = dict(told) if Facts.from_plain(told) is not None else fresh.as_plain()

    def step(self) -> float:
        """Look, and publish the facts; seconds until the next look. Raises redis errors."""
        try:
            self._look()
        except NO_ANSWER as error:
            if affects_one_entry(error):
                self._answered(_reason(error))
                self._plain.update(round_trip=None, queues=[], others=0, others_waiting=0)
                self._publish()
            raise
        self._publish()
        return min(max(EVERY, min(self._took) / SHARE), _RAREST)

    def note_outage(self, error: BaseException) -> None:
        """Redis does not answer."""
        now, plain = time.monotonic(), self._plain
        if plain["answers"] or not plain["error"]:
            plain["since"] = now
        plain.update(measured=now, answers=False, error=_reason(error))
        self.look_slowly()
        self._publish(instead=True)

    def look_slowly(self) -> None:
        """Have the next look be at what changes slowly, too."""
        self._slow_at = 0.0

    def just_seen(self) -> Look | None:
        """The last look, if it was just now and has seen all queues."""
        seen = self._seen
        return seen if seen is not None and time.monotonic() - seen.at < EVERY / 2 else None

    def _answered(self, error: str) -> None:
        now, plain = time.monotonic(), self._plain
        if not plain["answers"]:
            plain["since"] = now
        plain.update(measured=now, answers=True, error=error)

    def _look(self) -> None:
        slowly = time.monotonic() >= self._slow_at
        if slowly:
            self._plain["round_trip"] = self._ping()
        began = time.monotonic()
        raw = self._wire.ask(self._request(slowly=slowly)).decode(errors="replace")
        now = time.monotonic()
        self._took.append(max(0.0, now - began - (self._plain["round_trip"] or 0.0)))
        self._rates.look(now)
        suspended, rows, others, others_waiting = json.loads(raw)
        rows = rows or []
        long = [row for row in rows if len(row[0]) > LONGEST]
        if long:  # the facts have to fit on the scoreboard
            rows = [row for row in rows if len(row[0]) <= LONGEST]
            others += len(long)
            others_waiting += sum(row[1] for row in long)
        if slowly:
            self._slow_at = now + SLOWLY - EVERY / 2
            self._slow = {row[0]: _slow(*row[4:]) for row in rows}
        self._answered("")
        waiting = {row[0]: row[1] for row in rows}
        self._seen = Look(now, suspended, waiting) if not others else None
        self._plain.update(
            suspended=suspended,
            scheduler=_all(slow[3] for slow in self._slow.values()),
            queues=self._measured(rows, now),
            others=others,
            others_waiting=others_waiting,
        )

    def _measured(self, rows: list[list[Any]], now: float) -> list[list[Any]]:
        """The fields of `QueueMeasure`, in their order, from the script's answer."""
        slow, rate_of, clock = self._slow, self._rates.of, time.time()
        measured = [
            [
                name,
                waiting,
                _age(enqueued, clock) if enqueued else None,
                started or 0,
                *slow.get(name, _UNKNOWN),
                False,
                rate_of(name),
            ]
            for name, waiting, enqueued, started, *_ in rows
        ]
        alone = {row[0]: row for row in measured if row[1] and row[6] == 0}
        if alone or self._unserved.any:
            waiting = {name: row[1] for name, row in alone.items()}
            for name in self._unserved.find(waiting, self._served, now):
                alone[name][8] = True
        return measured

    def _served(self) -> list[str]:
        """Queues that some worker serves."""
        return [name for name, (_, _, served, _) in self._slow.items() if served]

    def note_schedule(self, plain: dict[str, Any]) -> None:
        """What is known of scheduled and periodic jobs, for the next facts."""
        self._plain["schedule"] = plain

    def _publish(self, *, instead: bool = False) -> None:
        """instead: also if this steward has said no hello yet, but none turns that has: without
        Redis there is none."""
        status = self._board.steward_status()
        is_silent = time.monotonic() - status.turned > SILENT
        if status.serial == self._serial or (
            instead and status.serial < self._serial and is_silent
        ):
            self._board.facts.write(self._plain)

    def _ping(self) -> float:
        began = time.monotonic()
        self._connection.ping()
        return time.monotonic() - began

    def _request(self, *, slowly: bool) -> bytes:
        keys = (Queue.redis_queues_keys, WORKERS_SUSPENDED)
        how = (f"{RQ_KEY_PREFIX}:", MOST, int(slowly), time.time())
        words: tuple[Any, ...] = (2, *keys, *how, *self._named)
        return b"*%d\r\n%b%b" % (2 + len(words), self._wire.evalsha, bulk(words))


def _reason(error: BaseException) -> str:
    return redact(describe_error(error))


def _slow(scheduled: Any, failed: Any, served: Any, locked: Any) -> _Slow:
    scheduler = bool(locked) if scheduled else None
    return _number(scheduled), _number(failed), _number(served), scheduler


def _number(value: Any) -> int | None:
    """None for false, which stands for what could not be read."""
    return None if isinstance(value, bool) else int(value)


def _age(text: str, clock: float) -> float | None:
    """Seconds since a moment that RQ has written; None if it cannot be read. clock: now."""
    try:
        moment = datetime.fromisoformat(text)
        return max(0.0, round(clock - moment.timestamp(), 3)) if moment.tzinfo else None
    except (ValueError, TypeError, OverflowError):
        return None


def _all(facts: Iterable[bool | None]) -> bool | None:
    """Whether all that are known are true; None if none is known."""
    known = [fact for fact in facts if fact is not None]
    return all(known) if known else None
