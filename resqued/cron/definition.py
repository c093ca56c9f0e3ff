"""A periodic job as it is in force: checked, with all defaults resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Final
from zoneinfo import ZoneInfo

from resqued.cron.canonical import digest
from resqued.cron.misfire import Misfire
from resqued.cron.ticks import CronTicks, IntervalTicks, Ticks

_HIDDEN: Final = frozenset({"args", "kwargs", "instance", "options", "place"})
"""Fields that `shown` leaves out: they may be anything, or secret."""


@dataclass(frozen=True)
class Definition:
    """One periodic job. Seconds throughout.

    function and instance are what RQ writes into a job: a dotted name and None, or the name of a
    method and its object.
    """

    name: str
    function: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    queue: str
    interval: float | None  # either this
    cron: str | None  # or this
    timezone: str  # name of a zone; of an interval job it says nothing
    misfire: Misfire = Misfire.ONCE
    grace: float = 3600.0
    overlap: bool = True  # whether a tick is enqueued while the last job has not ended
    jitter: float = 0.0
    enabled: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)  # what `enqueue` takes; never None
    of_rq: bool = False  # registered by rq.cron
    instance: Any = None
    place: str = ""  # `myapp/cron.py:12`, where it is registered; part of no digest

    @cached_property
    def key(self) -> str:
        """Its identity in Redis; in RQ's format several jobs may share a name."""
        if not self.of_rq:
            return self.name
        what = (self.function, self.instance, self.args, dict(self.kwargs))
        return f"{self.name}:{digest(*what, self.queue, self.interval, self.cron, length=10)}"

    @cached_property
    def digest(self) -> str:
        """The same for definitions that are equal, in each process and on each host."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        del values["place"]
        return digest({**values, "misfire": self.misfire.value})

    def ticks(self, first: float) -> Ticks:
        """Its ticks without the jitter. first: of an interval job, in Unix seconds."""
        if self.cron is not None:
            return self._cron_ticks
        assert self.interval is not None
        return IntervalTicks(first, self.interval)

    @cached_property
    def _cron_ticks(self) -> CronTicks:
        """Kept, since it parses the expression only once."""
        assert self.cron is not None
        return CronTicks(self.cron, ZoneInfo(self.timezone))

    def shown(self) -> dict[str, Any]:
        """Plain JSON, without arguments and options."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        plain = {name: value for name, value in values.items() if name not in _HIDDEN}
        return {**plain, "misfire": self.misfire.value, "key": self.key, "digest": self.digest}
