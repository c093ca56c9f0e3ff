"""Collects what is known of scheduled and periodic jobs, for the facts on the scoreboard."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any, Final

import redis

from resqued.broker import cron_records
from resqued.broker.cron_control import Kept, KeptJob, read_kept
from resqued.config import Config
from resqued.snapshots import CronFacts, ScheduleFacts
from resqued.steward.schedule import Schedule

EVERY: Final = 15.0
"""Seconds between two looks at the periodic jobs, at most if that is cheap; an earlier one comes
after the next tick."""

OVERDUE: Final = 5.0
"""Seconds after which a tick counts as overdue: before, another arbiter may still enqueue it."""

_AFTER: Final = 0.6  # seconds after a tick: by then another arbiter has enqueued it, too
_SHARE: Final = 0.001  # of a core, at most, that looks take: a thousand jobs take 0.1 s
_RAREST: Final = 120.0  # seconds between two looks, at most
_NONE: Final = 2.0  # seconds between two looks while there are none yet
_FAILED: Final = 3  # runs in a row
_NAMED: Final = 10  # jobs


class ScheduleWatch:
    """Reads the state of periodic jobs, if this arbiter has some. Runs in the steward. schedule: of
    scheduled jobs, if this arbiter moves them."""

    def __init__(self, connection: redis.Redis, schedule: Schedule | None, config: Config) -> None:
        self.has_cron = bool(getattr(config, "cron", ())) and not config.burst  # a plugin's setting
        self._connection = connection
        self._schedule = schedule
        self._cron: CronFacts | None = None

    def look(self) -> float:
        """Read the periodic jobs; seconds until the next look. Raises redis errors."""
        began = time.thread_time()
        kept = read_kept(self._connection)
        self._cron = summary(kept)
        pause = min((time.thread_time() - began) / _SHARE, _RAREST)
        return max(_until_next(self._cron, kept.clock), pause) if self._cron.jobs else _NONE

    def leave(self, arbiter: str) -> None:
        """The arbiter leaves for good. Raises redis errors."""
        if self.has_cron:
            cron_records.leave(self._connection, arbiter)

    def as_plain(self) -> dict[str, Any] | None:
        """The facts, as JSON can carry them; None if this arbiter has nothing to do with it."""
        schedule = self._schedule
        if schedule is None and not self.has_cron:
            return None
        moved, overdue = (schedule.moved, schedule.overdue) if schedule else (0, None)
        return asdict(ScheduleFacts(moved, overdue, self._cron))


def summary(kept: Kept) -> CronFacts:
    """The facts of all periodic jobs."""
    from resqued.cron.outlook import next_of

    dues = [(due, each.name) for each in kept.jobs if (due := next_of(each)) is not None]
    late = [(kept.clock - due, name) for due, name in dues if kept.clock - due > OVERDUE]
    coming = min([(due, name) for due, name in dues if due > kept.clock - OVERDUE], default=None)
    failing = [each.name for each in kept.jobs if each.failures >= _FAILED]
    return CronFacts(
        jobs=len(kept.jobs),
        enqueued=_sum(kept.jobs, "enqueued"),
        skipped=_sum(kept.jobs, "skipped"),
        missed=_sum(kept.jobs, "missed"),
        late=max((seconds for seconds, _ in late), default=0.0),
        lateness=max((each.late or 0.0 for each in kept.jobs), default=0.0),
        last_success=max((each.success for each in kept.jobs if each.success), default=None),
        next_name=coming[1] if coming else "",
        next_at=coming[0] if coming else None,
        overdue=tuple(name for _, name in sorted(late, reverse=True)[:_NAMED]),
        failing=tuple(failing[:_NAMED]),
    )


def _until_next(cron: CronFacts, clock: float) -> float:
    """Seconds until another tick is the next one, at most EVERY."""
    if cron.next_at is None:
        return EVERY
    return min(EVERY, max(0.0, cron.next_at - clock) + _AFTER)


def _sum(jobs: tuple[KeptJob, ...], name: str) -> int:
    return sum(each.counts[name] for each in jobs)
