"""The ticks of a periodic job: the moments at which it is due. Pure; moments are Unix seconds.

Through the changes of daylight saving time a cron expression behaves as under Debian's cron. One
whose hour is `*` or `*/n` runs by elapsed time: at each moment whose local time it names. One with
fixed hours runs once: right after the gap if its local time is skipped, and in the first of two
hours if it is repeated.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from croniter import CroniterError, croniter

_YEARS: Final = 8
"""So far ahead a tick is looked for; the 29th of February may be missing for eight years."""


class Ticks(Protocol):
    """The ticks of one job."""

    def after(self, moment: float) -> float | None:
        """The first tick later than this moment; None: there is none."""
        ...


@dataclass(frozen=True)
class IntervalTicks:
    """`first`, and every `seconds` after it."""

    first: float
    seconds: float

    def after(self, moment: float) -> float:
        """The first tick later than this moment."""
        if moment < self.first:
            return self.first
        passed = int((moment - self.first) // self.seconds)  # rounded: one too many or too few
        ticks = (self.first + (passed + more) * self.seconds for more in range(3))
        return next(tick for tick in ticks if tick > moment)


@dataclass(frozen=True)
class CronTicks:
    """The ticks of a cron expression (croniter's, a sixth field is seconds) in a zone.

    Raises ValueError in `check` for an expression that is wrong, or that never comes.
    """

    expression: str
    zone: ZoneInfo

    def check(self, now: float) -> None:
        """Raise ValueError, with what is wrong, for an expression that cannot be used."""
        try:
            croniter(self.expression)
        except CroniterError as error:
            raise ValueError(f"cron expression {self.expression!r}: {error}") from None
        if self.after(now) is None:
            raise ValueError(f"cron expression {self.expression!r} never comes")

    @cached_property
    def is_by_elapsed_time(self) -> bool:
        """Whether its hour is `*` or `*/n`."""
        if self.expression.startswith("@"):
            return self.expression.lower() == "@hourly"
        return self.expression.split()[1].startswith("*")

    def after(self, moment: float) -> float | None:
        """The first tick later than this moment; None: there is none for some years."""
        try:
            return self._elapsed(moment) if self.is_by_elapsed_time else self._fixed(moment)
        except CroniterError:
            return None

    def _elapsed(self, moment: float) -> float:
        """Local time is read with the offset in force; where that changes, again from there."""
        inclusive = False
        while True:
            offset = self._offset(moment)
            local = _naive(moment, offset) - (_INSTANT if inclusive else timedelta())
            tick = (self._next(local) - _EPOCH - offset).total_seconds()
            if self._offset(tick) == offset and not self._changes(moment, tick, offset):
                return tick
            moment, inclusive = self._change(moment, tick, offset), True

    def _fixed(self, moment: float) -> float:
        """A later local time is never an earlier moment here, so the next one is the next tick;
        but not of those that were there before: they follow the second of two hours."""
        at = datetime.fromtimestamp(math.floor(moment), self.zone)
        local = _naive(moment, at.utcoffset() or timedelta())
        if at.fold:
            before = at.replace(fold=0).utcoffset() or timedelta()
            begin = moment - (before - (at.utcoffset() or timedelta())).total_seconds()
            local = _naive(self._change(begin, moment, before), before) - _INSTANT
        return self._moment_of(self._next(local))

    def _next(self, local: datetime) -> datetime:
        """The first local time after this one. Raises CroniterError if there is none."""
        found = self._reader.get_next(datetime, start_time=local)
        assert isinstance(found, datetime)
        return found

    @cached_property
    def _reader(self) -> croniter:
        """Parsing takes longer than to find the next one."""
        return croniter(self.expression, _EPOCH, max_years_between_matches=_YEARS)

    def _moment_of(self, local: datetime) -> float:
        """The first moment with this local time; if it is skipped, the one right after the gap."""
        aware = local.replace(tzinfo=self.zone, fold=0)
        tick = aware.timestamp()
        back = datetime.fromtimestamp(tick, self.zone).replace(tzinfo=None)
        if back == local:
            return tick
        before = aware.replace(fold=1).timestamp()  # in a gap, fold 1 is the earlier moment
        return self._change(min(tick, before), max(tick, before), self._offset(min(tick, before)))

    def _offset(self, moment: float) -> timedelta:
        # of its second: zones change at whole ones, and a fraction would be rounded up
        offset = datetime.fromtimestamp(math.floor(moment), self.zone).utcoffset()
        return offset if offset is not None else timedelta()

    def _changes(self, begin: float, end: float, offset: timedelta) -> bool:
        """Whether the offset is another somewhere between two moments at which it is this one.

        Looks at one moment a week: no zone has left and resumed an offset in less.
        """
        week = 7 * 86400.0
        moment = begin + week
        while moment < end:
            if self._offset(moment) != offset:
                return True
            moment += week
        return False

    def _change(self, begin: float, end: float, offset: timedelta) -> float:
        """The first whole second after `begin` with another offset."""
        first, last = int(begin), int(begin)
        while self._offset(last) == offset:
            first, last = last, min(last + 7 * 86400, int(end) + 1) if last < int(end) else last + 1
        seconds = range(first, last + 1)
        return first + bisect_left(seconds, True, key=lambda at: self._offset(at) != offset)


_EPOCH: Final = datetime(1970, 1, 1)  # local time is naive here

_INSTANT: Final = timedelta(microseconds=1)


def _naive(moment: float, offset: timedelta) -> datetime:
    """Local time, never rounded up: a tick is not passed before it comes."""
    seconds = math.floor(moment)
    return _EPOCH + offset + timedelta(seconds=seconds, microseconds=int((moment - seconds) * 1e6))
