"""What is enqueued of the ticks that have passed."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resqued.cron.misfire import MOST, PUNCTUAL, Misfire, decide
from resqued.cron.ticks import IntervalTicks

ONCE, SKIP, ALL = Misfire
HOURLY = IntervalTicks(0.0, 3600.0)


@dataclass(frozen=True)
class Never:
    def after(self, moment):
        return None


@pytest.mark.parametrize(
    ("misfire", "last", "now", "run", "missed"),
    [
        (ONCE, 3600, 7000, (), 0),
        (ONCE, 3600, 7200, (7200,), 0),
        (ONCE, 3600, 7200 + 3000, (7200,), 0),
        (ONCE, 3600, 4 * 3600 + 10, (4 * 3600,), 2),
        (SKIP, 3600, 7200 + 59, (7200,), 0),
        (SKIP, 3600, 7200 + 61, (), 1),
        (SKIP, 3600, 4 * 3600 + 10, (4 * 3600,), 2),
        (ALL, 3600, 3 * 3600 + 10, (7200, 3 * 3600), 0),
    ],
)
def test_missed_ticks(misfire, last, now, run, missed):
    decision = decide(HOURLY, last, now, misfire, grace=7200.0)
    assert (decision.run, decision.missed) == (run, missed)
    assert decision.last == (now // 3600 * 3600 if now >= 7200 else last)


def test_ticks_older_than_the_grace_do_not_run():
    ticks = IntervalTicks(0.0, 86400.0)
    decision = decide(ticks, 86400.0, 2 * 86400 + 7201, ONCE, grace=7200.0)
    assert (decision.run, decision.missed, decision.last) == ((), 1, 2 * 86400)


def test_a_year_without_an_arbiter_is_not_counted_second_by_second():
    ticks = IntervalTicks(0.0, 1.0)
    decision = decide(ticks, 0.0, 365 * 86400.0, ALL, grace=3600.0)
    assert len(decision.run) == MOST
    assert decision.at_least and decision.missed == MOST + 1
    assert decision.last == 365 * 86400


def test_a_clock_that_jumps_back_repeats_nothing():
    decision = decide(HOURLY, 7200.0, 5000.0, ALL, grace=3600.0)
    assert (decision.run, decision.last) == ((), 7200.0)


def test_a_last_tick_far_in_the_future_is_brought_back():
    decision = decide(HOURLY, 90000.0, 7300.0, ONCE, grace=3600.0)
    assert decision.brought_back
    assert (decision.run, decision.last) == ((), 7300.0)


def test_a_job_that_never_comes():
    assert decide(Never(), 0.0, 1e9, ALL, 60.0).run == ()


@given(
    st.integers(1, 100_000),
    st.integers(0, 1_000_000),
    st.lists(st.floats(0, 2e5), min_size=1, max_size=20),
    st.sampled_from(Misfire),
    st.floats(60, 86400),
)
def test_no_tick_runs_twice_and_what_runs_is_a_tick(seconds, start, waits, misfire, grace):
    ticks, last, now, ran = IntervalTicks(start, seconds), start, start, []
    for wait in waits:
        now += wait
        decision = decide(ticks, last, now, misfire, grace)
        assert all(last < tick <= now for tick in decision.run)
        assert all(now - tick <= max(grace, PUNCTUAL) for tick in decision.run)
        assert decision.missed >= 0
        assert decision.last >= last
        ran += decision.run
        last = decision.last
        following = ticks.after(last)
        assert following > now, "all that have passed are done with"
    assert ran == sorted(set(ran))
