"""Scheduled jobs that are due; without a scheduler, a check for jobs that wait for one."""

from __future__ import annotations

import logging
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final

import redis
from rq.queue import Queue
from rq.registry import ScheduledJobRegistry
from rq.scheduler import RQScheduler
from rq.utils import parse_names

from resqued import linux, logs
from resqued.broker.bad_data import abbreviate
from resqued.broker.listener import Listener, Watched
from resqued.broker.queues import REST, expand, known_queues
from resqued.broker.schedule import DueJobs, Moved, registry_key
from resqued.config import Config
from resqued.logs import LogEvent

CHECK_EVERY: Final = 20.0
"""Seconds between two checks for scheduled jobs without a scheduler. A scheduler's lock on a queue
lives for 61, or LIFE."""

LIFE: Final = 14.0
"""Seconds that a lock outlives the arbiter that holds it; another takes over then."""

TASK: Final = "enqueue scheduled jobs"

TURN: Final = 1.0
"""Seconds between two looks at most. An earlier one comes when a job is due, or when Redis reports
that a registry has changed."""

APART: Final = 0.02
"""Seconds between two looks at least."""

BUDGET: Final = 0.05
"""Seconds of moving jobs, after which the steward's other tasks come first."""

_NAMES: Final = 10.0  # seconds between two looks for queues that are not named
_BEAT: Final = 15.0  # seconds between two heartbeats of the registration, which lives for 61
_SAID: Final = 60.0  # seconds between two lines in the log about jobs that are gone


class Schedule:
    """Moves scheduled jobs that are due, of all configured queues. Runs in the steward.

    It uses the locks of RQ's own scheduler: one scheduler holds a queue's lock, and another gets it
    when that one is dead. Ours are held in the name of the arbiter, so that the next steward goes
    on at once.
    """

    def __init__(
        self, connection: redis.Redis, config: Config, identity: str, answer: float
    ) -> None:
        self._connection = connection
        self._listener = Listener(connection, None, answer)
        self._watched: set[str] = set()  # queues of whose next change the listener hears
        self._looked_at = 0.0
        self._named = [queue.name for queue in config.queues]
        self._names = set(self._named) - {REST}
        self._due = DueJobs(connection, identity, LIFE)
        level = logging.getLogger("rq").level
        registration: Any = RQScheduler(
            self._named, connection=connection, logging_level=level, name=identity
        )
        registration._connection = connection  # else it makes a second one
        registration.hostname = linux.host_name()
        self._registration = registration
        self._names_at = self._beat_at = self._said_at = 0.0
        self._gone: dict[str, tuple[int, bytes]] = {}  # by queue: how many are untold, one of them
        self._moved_last = ""  # queue
        self.moved = 0
        """Jobs that were moved."""
        self.overdue = 0.0
        """Seconds by which a job was overdue at the last look."""

    def step(self) -> float:
        """Move what is due, for BUDGET seconds; seconds until the next step. Raises redis
        errors."""
        began = self._looked_at = time.monotonic()
        self._register(began)
        self._find_queues(began)
        self._watch()
        looked = self._due.look(sorted(self._names))
        self.overdue = max((due.overdue for due in looked), default=0.0)
        done = self._move([due.name for due in looked if due.held and due.count], began + BUDGET)
        self._tell_gone()
        if not done:
            return 0.0
        waits = [due.wait for due in looked if due.wait is not None]
        passed = time.monotonic() - began
        return max(APART, min([TURN, *(wait - passed for wait in waits)]))

    def _move(self, names: Sequence[str], until: float) -> bool:
        """Move what is due in these queues, a slice of each in turn; whether all of it is. The next
        call begins with the queue whose turn it is, so one with many holds up no other."""
        begin = bisect_right(names, self._moved_last)
        turns = deque([*names[begin:], *names[:begin]])
        while turns:
            name = self._moved_last = turns.popleft()
            moved = self._due.move(name)
            self._log(name, moved)
            if moved.held and not moved.is_empty:
                if time.monotonic() > until:
                    return False
                turns.append(name)
        return True

    @property
    def descriptors(self) -> list[int]:
        """What to poll, beside the steward's other ones."""
        return self._listener.descriptors

    def hear(self) -> float | None:
        """When the next step is due (monotonic), if something was scheduled since the last; else
        None."""
        self._listener.read()
        return self._looked_at + APART if self._listener.pushed else None

    def _watch(self) -> None:
        """Have the next change of each registry reported. Before the look, so that none is
        missed."""
        listener = self._listener
        listener.open()
        if not listener.tracking:
            listener.pushed = False
            self._watched.clear()
        elif listener.pushed or self._watched != self._names:
            listener.pushed = False
            listener.watch(Watched([registry_key(name) for name in sorted(self._names)]))
            self._watched = set(self._names)

    def close(self) -> None:
        """Close the connection that hears of changes."""
        self._listener.close()

    def stop(self) -> None:
        """The arbiter leaves: release the locks. Raises redis errors."""
        self._due.release(self._names)
        self._registration.register_death()

    def _register(self, now: float) -> None:
        """As `RQScheduler.register_birth` and `heartbeat`, without the locks."""
        if now >= self._beat_at:
            self._beat_at = now + _BEAT
            self._registration._queue_names = self._names
            self._registration.register_birth()

    def _find_queues(self, now: float) -> None:
        if REST in self._named and now >= self._names_at:
            self._names_at = now + _NAMES
            known = known_queues(self._connection, Queue)
            self._names = set(parse_names(expand(self._named, self._named, known)))

    def _log(self, name: str, moved: Moved) -> None:
        self._count_gone(name, moved.gone)
        self.moved += moved.count
        if moved.count:
            were = (
                "1 scheduled job was" if moved.count == 1 else f"{moved.count} scheduled jobs were"
            )
            logs.info(
                f"queue={name}: {were} due",
                LogEvent.JOBS_DUE,
                queue=name,
                jobs=moved.count,
            )

    def _count_gone(self, name: str, gone: Sequence[bytes]) -> None:
        if gone:
            self._gone[name] = self._gone.get(name, (0, b""))[0] + len(gone), gone[0]

    def _tell_gone(self) -> None:
        """Once a minute, also of those that came since the last time."""
        now = time.monotonic()
        if not self._gone or now < self._said_at:
            return
        self._said_at = now + _SAID
        for name, (count, such) in self._gone.items():
            logs.warning(
                f"queue={name}: {count} scheduled jobs did not exist any more when they were due,"
                f" such as {abbreviate(such)}: a job's ttl begins when it is scheduled",
                LogEvent.QUEUE_NOTICE,
                queue=name,
            )
        self._gone.clear()


class Unscheduled:
    """Warns of scheduled jobs in queues that no scheduler has locked: they would wait for ever.

    Runs in the steward of an arbiter with `--no-scheduler`.
    """

    def __init__(self, connection: redis.Redis, config: Config) -> None:
        self._connection = connection
        self._named = [queue.name for queue in config.queues]
        self._logged: set[str] = set()  # queues of which the log has a warning

    def check(self) -> None:
        """Log one warning a queue for as long as jobs wait there. Raises redis errors."""
        names = self._queues()
        with self._connection.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.zcard(ScheduledJobRegistry.key_template.format(name))
                pipeline.exists(RQScheduler.get_locking_key(name))
            answers = pipeline.execute(raise_on_error=False)
        waiting = set(_unattended(names, answers))
        for name in sorted(waiting - self._logged):
            logs.warning(
                f"queue={name} has scheduled jobs (delayed retries are some) and no scheduler:"
                " leave --no-scheduler out, here or where another serves the queue",
                LogEvent.STEWARD_NOTICE,
            )
        self._logged = waiting

    def _queues(self) -> list[str]:
        if REST not in self._named:
            return self._named
        return expand(self._named, self._named, known_queues(self._connection, Queue))


def _unattended(names: list[str], answers: list[object]) -> Iterable[str]:
    """Queues with scheduled jobs and no lock.

    answers: two for each name, the number of scheduled jobs and whether there is a lock. A key of
    another type gives an error in place of the number.
    """
    for name, count, locked in zip(names, answers[::2], answers[1::2], strict=True):
        if isinstance(count, int) and count and not locked:
            yield name
