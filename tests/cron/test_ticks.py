"""The ticks of a cron expression, beside a model that looks at every minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import example, given
from hypothesis import strategies as st

from resqued.cron.ticks import CronTicks, IntervalTicks

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
    moment = begin.replace(second=0, microsecond=0) - timedelta(hours=50)
    while moment <= end:
        minutes.append(moment)
        moment += MINUTE
    found = set()
    if expression.split()[1].startswith("*"):
        found = {each for each in minutes if matches(local(each, zone))}
    else:
        for before, after in pairwise(minutes):
            first, then = local(before, zone) + MINUTE, local(after, zone)
            skipped = first
            while skipped < then:  # the clock goes forward between the two
                if matches(skipped):
                    found.add(after)
                skipped += MINUTE
            seen_before = local(after, zone) in {
                local(after - timedelta(minutes=back), zone) for back in (30, 60)
            }
            if matches(then) and not seen_before:
                found.add(after)
    return sorted(each.timestamp() for each in found if begin < each <= end)


def ours(expression, zone, begin, end):
    ticks, moment, found = CronTicks(expression, zone), begin.timestamp(), []
    while (moment := ticks.after(moment)) is not None and moment <= end.timestamp():
        found.append(moment)
    return found


expressions = st.builds(
    "{} {} {} * {}".format,
    st.sampled_from(["0", "30", "*/20", "15,45", "59", "*/7"]),
    st.sampled_from(["*", "*/2", "2", "1-3", "0", "23", "1,14", "*/5"]),
    st.sampled_from(["*", "1", "29", "*/2", "30"]),
    st.sampled_from(["*", "sun", "1-5"]),
)
starts = st.sampled_from(ZONES).flatmap(
    lambda name: st.tuples(
        st.just(name),
        st.builds(
            lambda change, minutes: change + timedelta(minutes=minutes),
            st.sampled_from(CHANGES.get(name, [datetime(2026, 3, 29, 1, tzinfo=UTC)])),
            st.integers(-1800, 1500),
        ),
    )
)


@given(expressions, starts)
@example("30 2 * * *", ("Europe/Berlin", datetime(2026, 3, 28, 12, tzinfo=UTC)))
@example("30 2 * * *", ("Europe/Berlin", datetime(2026, 10, 25, 0, 45, tzinfo=UTC)))
@example("*/20 * * * *", ("Europe/Berlin", datetime(2026, 10, 24, 23, 50, tzinfo=UTC)))
def test_as_the_model(expression, start):
    name, begin = start
    zone, end = ZoneInfo(name), begin + timedelta(hours=30)
    assert ours(expression, zone, begin, end) == model(expression, zone, begin, end)


BERLIN = ZoneInfo("Europe/Berlin")


def at(text):
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("expression", "begin", "then"),
    [
        ("*/20 * * * *", "2026-10-25T02:40+02:00", "2026-10-25T02:00+01:00"),
        ("30 2 * * *", "2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"),
        ("30 2 * * *", "2026-03-28T02:30+01:00", "2026-03-29T03:00+02:00"),
        ("0 0 29 2 *", "2026-01-01T00:00+01:00", "2028-02-29T00:00+01:00"),
        ("0 2 30 3 *", "2026-03-30T02:00+02:00", "2027-03-30T02:00+02:00"),
        ("* * * * * *", "2026-01-01T00:00:07+01:00", "2026-01-01T00:00:08+01:00"),
        ("0 0 * * * 30", "2026-01-01T00:00+01:00", "2026-01-01T00:00:30+01:00"),
        ("@hourly", "2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00"),
        ("@daily", "2026-10-25T02:00+02:00", "2026-10-26T00:00+01:00"),
    ],
)
def test_the_next(expression, begin, then):
    assert CronTicks(expression, BERLIN).after(at(begin)) == at(then)


@pytest.mark.parametrize("expression", ["61 * * * *", "", "* * *", "a b c d e", "0 0 30 2 *"])
def test_one_that_cannot_be_used_says_so(expression):
    with pytest.raises(ValueError, match="cron expression"):
        CronTicks(expression, BERLIN).check(0.0)


@given(st.floats(0, 1e9), st.floats(0.5, 1e6), st.floats(0, 2e9))
def test_an_interval(first, seconds, moment):
    tick = IntervalTicks(first, seconds).after(moment)
    assert tick > moment
    assert tick == first or tick - moment <= seconds * (1 + 1e-6) + 1e-6
