"""What the steward has measured in Redis: its queues and its answers.

The steward writes these facts to the scoreboard once a second; any process may read them there.
Times are seconds on the monotonic clock, which all processes of a machine share. What is not known
is None, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self

from resqued.snapshots import CronFacts, ScheduleFacts

MOST: Final = 1000
"""Queues that are named; the others are summed up."""


@dataclass(frozen=True)
class QueueMeasure:
    """One queue, of those that RQ knows or that are configured here."""

    name: str
    """Without RQ's prefix."""
    waiting: int
    """Jobs."""
    oldest: float | None
    """Seconds that the job at its head has waited; None if it is empty, or that is not known."""
    started: int
    """Jobs in RQ's registry of started jobs, of all hosts, whose entry has not expired."""
    scheduled: int | None
    """Jobs in RQ's registry of scheduled jobs (delayed retries too), of all hosts."""
    failed: int | None
    """Jobs in RQ's registry of failed jobs."""
    served: int | None
    """Workers, of any host and of stock RQ too, that are registered for it."""
    scheduler: bool | None = None
    """Whether a scheduler, on any host, has RQ's lock for it; None if nothing is scheduled."""
    unserved: bool = False
    """Something waits in it, and has for some time been served by no living worker anywhere."""
    per_minute: float | None = None
    """Jobs that workers of this arbiter have ended, a minute, over the last minute."""


@dataclass(frozen=True)
class Facts:
    """One look at Redis. While Redis does not answer, the queues are those of the last answer."""

    measured: float
    """When."""
    answers: bool
    """Whether Redis answers the steward."""
    since: float
    """When it began to answer, or stopped."""
    error: str
    """Why it does not, or why it refuses to have its queues measured, without secrets."""
    round_trip: float | None
    """Seconds that a PING takes."""
    suspended: bool
    """`rq suspend` is in force."""
    scheduler: bool | None
    """Whether a scheduler runs, on any host, for all queues in which something is scheduled; None
    if nothing is."""
    queues: tuple[QueueMeasure, ...]
    """At most MOST, sorted by name. If there are more, those that are configured here come first,
    and then those in which most is waiting."""
    others: int
    """Queues that are not among them."""
    others_waiting: int
    """Jobs that wait in those."""
    schedule: ScheduleFacts | None = None
    """Scheduled and periodic jobs; None without a scheduler."""

    def as_plain(self) -> dict[str, Any]:
        """As JSON can carry it."""
        plain = {field.name: getattr(self, field.name) for field in _FIELDS}
        plain["queues"] = [list(vars(queue).values()) for queue in self.queues]
        plain["schedule"] = None if self.schedule is None else asdict(self.schedule)
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self | None:
        """The inverse. None before the first look, and for what is not whole: job code can write
        over the scoreboard."""
        try:
            values = {field.name: plain[field.name] for field in _FIELDS}
            values["queues"] = tuple([QueueMeasure(*queue) for queue in sorted(values["queues"])])
            values["schedule"] = _schedule(values["schedule"])
            return cls(**values)
        except (KeyError, TypeError):
            return None

    def queue(self, name: str) -> QueueMeasure | None:
        """The queue with this name, if it is among them."""
        return next((queue for queue in self.queues if queue.name == name), None)


_FIELDS: Final = fields(Facts)


def _schedule(plain: Mapping[str, Any] | None) -> ScheduleFacts | None:
    """Raises KeyError, TypeError for what is not whole."""
    if plain is None:
        return None
    cron = plain["cron"]
    if cron is not None:
        names = {name: tuple(map(str, cron[name])) for name in ("overdue", "failing")}
        cron = CronFacts(**{**cron, **names})
    return ScheduleFacts(plain["moved"], plain["overdue"], cron)
