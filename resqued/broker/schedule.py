"""Scheduled jobs whose time has come: one script moves them, where RQ's scheduler reads them and
writes a transaction.

A lost reply, a pause or another scheduler never moves a job twice: the script removes the id from
the registry and asks for the queue's lock in the same step. Runs in the steward, and in workers
without an arbiter.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis
from rq.defaults import RQ_KEY_PREFIX
from rq.queue import Queue
from rq.rate_limit import ACQUIRE_AND_ENQUEUE_SCRIPT
from rq.registry import ScheduledJobRegistry
from rq.scheduler import RQScheduler
from rq.scripts import release_lock
from rq.utils import now, utcformat

from resqued import logs
from resqued.broker.bad_data import abbreviate, is_data_error, log_once, set_aside, text_of
from resqued.broker.wire import read_script
from resqued.logs import LogEvent

SLICE: Final = 200
"""Jobs that one call of the script moves: some two milliseconds, for which other clients wait."""

LIFE_BESIDE_RQ: Final = 61.0
"""Seconds that a lock of RQ's own scheduler outlives it."""

_AGAIN: Final = 60.0  # seconds until what could not be read is tried again

_LOOK: Final = read_script("due_look")
_MOVE: Final = (
    f"local function promote(KEYS, ARGV)\n{ACQUIRE_AND_ENQUEUE_SCRIPT}\nend\n{read_script('due')}"
)


@dataclass(frozen=True)
class Due:
    """What is due in one queue."""

    name: str
    held: bool  # its lock, by this scheduler
    count: int  # jobs that are due
    wait: float | None  # seconds until the next one is; None: there is none, or it is not known
    overdue: float = 0.0  # seconds by which the first of them is overdue


@dataclass(frozen=True)
class Moved:
    """What one slice has done."""

    held: bool
    count: int = 0  # jobs that were moved
    gone: tuple[bytes, ...] = ()  # ids whose job does not exist any more
    odd: tuple[bytes, ...] = ()  # ids that stay in the registry

    @property
    def is_empty(self) -> bool:
        return not (self.count or self.gone or self.odd)


class DueJobs:
    """Sends the scripts. holder: under which name the schedulers' locks are held. life: seconds
    that a lock outlives its holder."""

    def __init__(self, connection: redis.Redis, holder: str, life: float) -> None:
        self._connection = connection
        self._holder = holder
        self._life = round(life * 1000)
        self._odd = _Odd()
        self._look = connection.register_script(_LOOK)
        self._move = connection.register_script(_MOVE)

    def look(self, names: Iterable[str]) -> list[Due]:
        """Take or keep the locks of these queues, and count what is due in those that are held. One
        round trip. Raises redis errors."""
        names = list(names)
        keys = [key for name in names for key in (_lock(name), registry_key(name))]
        if not keys:
            return []
        found: Any = self._look(keys=keys, args=[self._holder, self._life])
        parts = zip(names, *(found[at::4] for at in range(4)), strict=True)
        return [self._due(*part) for part in parts]

    def _due(self, name: str, state: bytes, count: int, wait: bytes, overdue: bytes) -> Due:
        if state == b"odd":
            log_once(
                f"{registry_key(name)} odd",
                f"scheduled jobs of queue={name} cannot be read: {registry_key(name)} or"
                f" {_lock(name)} has another type",
            )
        passed = len(self._odd.of(name))
        seconds = max(0.0, float(wait)) if wait else None
        late = float(overdue) if overdue and count > passed else 0.0
        return Due(name, state == b"held", max(0, count - passed), seconds, late)

    def move(self, name: str) -> Moved:
        """Move at most SLICE due jobs of a queue. Raises redis errors."""
        moved = self._run(name, "but", self._odd.of(name))
        if not moved.odd:
            return moved
        # The script cannot tell whether an id is UTF-8, if it is no ASCII.
        readable = [each for each in moved.odd if text_of(each) is not None]
        again = self._run(name, "only", readable) if readable else Moved(moved.held)
        left = (*again.odd, *(each for each in moved.odd if text_of(each) is None))
        self._odd.add(name, left)
        return Moved(moved.held, moved.count + again.count, (*moved.gone, *again.gone), left)

    def _run(self, name: str, mode: str, ids: Sequence[bytes]) -> Moved:
        queue = Queue(name, connection=self._connection)
        keys = [_lock(name), registry_key(name), queue.key]
        args: list[Any] = [self._holder, RQ_KEY_PREFIX, name, queue._default_timeout]
        args += [utcformat(now()), SLICE, mode, *ids]
        try:
            answer: Any = self._move(keys=keys, args=args)
        except redis.ResponseError as error:
            if not is_data_error(error):
                raise
            set_aside(self._connection, queue.key, "list")  # or another process has
            answer = self._move(keys=keys, args=args)
        what, count, gone, odd = answer
        return Moved(what == b"held", int(count), tuple(gone), tuple(odd))

    def release(self, names: Iterable[str]) -> None:
        """Give up those of these locks that are held. Raises redis errors."""
        for name in names:
            release_lock(self._connection, _lock(name), self._holder)


class _Odd:
    """Ids that stay in their registries. They are passed over, and tried again once a minute."""

    def __init__(self) -> None:
        self._ids: dict[str, dict[bytes, None]] = {}
        self._until: dict[str, float] = {}
        self._told: dict[str, set[bytes]] = {}

    def of(self, name: str) -> list[bytes]:
        """Those of a queue."""
        if name in self._until and time.monotonic() >= self._until[name]:
            del self._ids[name], self._until[name]
        return list(self._ids.get(name, ()))

    def add(self, name: str, ids: Sequence[bytes]) -> None:
        """Pass them over from now on; those that are new are told in one line."""
        if not ids:
            return
        self._until.setdefault(name, time.monotonic() + _AGAIN)
        self._ids.setdefault(name, {}).update(dict.fromkeys(ids))
        told = self._told.setdefault(name, set())
        fresh = [each for each in ids if each not in told]
        told.update(fresh)
        if not fresh:
            return
        what = f"scheduled job={abbreviate(fresh[0])} of queue={name} cannot be read: it stays"
        if len(fresh) > 1:
            what = (
                f"{len(fresh)} scheduled jobs of queue={name} cannot be read, such as"
                f" job={abbreviate(fresh[0])}: each stays"
            )
        text = f"{what} where it is, and is tried again once a minute"
        logs.at("ERROR", text, LogEvent.REDIS_NOTICE)


def enqueue_due(connection: redis.Redis, names: Iterable[str], holder: str) -> None:
    """Move all that is due now in these queues, whose locks are held. Raises redis errors."""
    due_jobs = DueJobs(connection, holder, LIFE_BESIDE_RQ)
    for due in due_jobs.look(sorted(names)):
        while due.held and due.count and not due_jobs.move(due.name).is_empty:
            pass


def registry_key(name: str) -> str:
    """The key of a queue's registry of scheduled jobs."""
    return ScheduledJobRegistry.key_template.format(name)


def _lock(name: str) -> str:
    return str(RQScheduler.get_locking_key(name))
