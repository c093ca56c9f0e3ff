"""The ticks of a cron expression by a plain model, which looks at every minute."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from croniter import croniter

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",  # half an hour
    "Asia/Kolkata",
    "Pacific/Apia",
    "Africa/Casablanca",
]

CHANGES = {
    "Europe/Berlin": [datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)],
    "America/New_York": [datetime(2026, 3, 8, 7, tzinfo=UTC), datetime(2026, 11, 1, 6, tzinfo=UTC)],
    "Australia/Lord_Howe": [
        datetime(2026, 4, 4, 15, tzinfo=UTC),
        datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
    ],
    "Pacific/Apia": [datetime(2011, 12, 30, 10, tzinfo=UTC)],  # a day that never was
    "Africa/Casablanca": [
        datetime(2026, 2, 15, 2, tzinfo=UTC),
        datetime(2026, 3, 22, 2, tzinfo=UTC),
    ],
}

MINUTE = timedelta(minutes=1)


def local(moment, zone):
    return moment.astimezone(zone).replace(tzinfo=None)


@functools.cache
def matcher(expression):
    """Whether a local minute is one of the expression's: cron's own rules, by sets."""
    (minutes, hours, days, _, weekdays), _ = croniter.expand(expression)

    def matches(at):
        if minutes != ["*"] and at.minute not in minutes:
            return False
        if hours != ["*"] and at.hour not in hours:
            return False
        day = days == ["*"] or at.day in days
        weekday = weekdays == ["*"] or at.isoweekday() % 7 in weekdays
        if days == ["*"] or weekdays == ["*"]:
            return day and weekday
        return day or weekday

    return matches


def model(expression, zone, begin, end):
    """All ticks in (begin, end], by looking at every minute."""
    minutes, matches = [], matcher(expression)
    moment = begin.replace(second=0, microsecond=0) - timedelta(hours=2)
    while moment <= end:
        minutes.append(moment)
        moment += MINUTE
    found = set()
    if expression.split()[1].startswith("*"):
        found = {each for each in minutes if matches(local(each, zone))}
    else:
        times = [local(each, zone) for each in minutes]
        for (before, then), after in zip(pairwise(times), minutes[1:], strict=True):
            skipped = before + MINUTE
            while skipped < then:  # the clock goes forward between the two
                if matches(skipped):
                    found.add(after)
                skipped += MINUTE
            earlier = (after - timedelta(minutes=back) for back in (30, 60))
            if matches(then) and then not in {local(each, zone) for each in earlier}:
                found.add(after)
    return sorted(each.timestamp() for each in found if begin < each <= end)
