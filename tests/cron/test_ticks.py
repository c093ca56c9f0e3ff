"""The ticks of a cron expression, beside a model that looks at every minute."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.cron_model import CHANGES, ZONES, model
from resqued.cron.ticks import CronTicks, IntervalTicks


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


SECONDS = ["* 2 * * * *", "*/30 2,3 * * * 0,59", "59 1-3 * * * */20", "0 3 * * * 1"]


@pytest.mark.parametrize("expression", SECONDS)
@pytest.mark.parametrize("zone", [name for name in CHANGES if name != "Pacific/Apia"])
def test_seconds_of_fixed_hours_run_once_through_each_change(expression, zone):
    """They are those of the minute, each in its order, none twice."""
    zone = ZoneInfo(zone)
    for change in CHANGES[zone.key]:
        begin, end = change - timedelta(hours=3), change + timedelta(hours=5)
        found = ours(expression, zone, begin, end)
        assert found == sorted(set(found))
        seen = [datetime.fromtimestamp(each, zone).replace(tzinfo=None) for each in found]
        gaps = [at for at, moment in zip(seen, found, strict=True) if moment == change.timestamp()]
        assert len(set(seen) - set(gaps)) == len(seen) - len(gaps), "no local time twice"
        minutes = model(" ".join(expression.split()[:5]), zone, begin, end)
        assert {each // 60 * 60 for each in found} == {each // 60 * 60 for each in minutes}


@given(expressions, starts, st.integers(0, 3_000_000))
def test_a_moment_just_before_a_tick_is_not_taken_for_it(expression, start, micros):
    zone, begin = ZoneInfo(start[0]), start[1].timestamp() + micros / 1e6
    ticks = CronTicks(expression, zone)
    tick = ticks.after(begin)
    assert ticks.after(math.nextafter(tick, 0.0)) == tick
    assert ticks.after(tick) > tick
    assert ticks.after((begin + tick) / 2) == tick or (begin + tick) / 2 == tick


@pytest.mark.parametrize("hours", range(-2, 26, 4))
def test_after_a_change_no_tick_of_before_is_gone_through_again(hours, monkeypatch):
    """There are 39,600 of this expression in a day."""
    looked = []
    ticks = CronTicks("* 1-12 * * * *", BERLIN)
    read = ticks._next
    monkeypatch.setitem(vars(ticks), "_next", lambda local: looked.append(local) or read(local))
    for change in CHANGES["Europe/Berlin"]:
        assert ticks.after(change.timestamp() + hours * 3600 + 7) is not None
    assert len(looked) == 2


@given(st.floats(0, 1e9), st.floats(0.5, 1e6), st.floats(0, 2e9))
@example(0.1, 1.1, math.nextafter(0.1 + 1.1 * 1e9, 0.0))
def test_an_interval(first, seconds, moment):
    tick = IntervalTicks(first, seconds).after(moment)
    assert tick > moment
    number = round((tick - first) / seconds)
    assert tick == first + number * seconds
    assert number == 0 or first + (number - 1) * seconds <= moment, "none is left out"
