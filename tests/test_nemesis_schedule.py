"""Arbiters with periodic and scheduled jobs are killed, stopped, reloaded and restarted: each tick
and each scheduled job comes once. `tests/nemesis/run-schedule` does it for longer."""

from __future__ import annotations

import pytest

from nemesis.schedule.arbiters import EXPECTED_ERRORS, arguments
from nemesis.schedule.check import Periodic, judge_scheduled, judge_ticks
from nemesis.schedule.plan import KILLED, PAUSED, TURNED, Order, make_blows, make_orders
from nemesis.schedule.rounds import Options, play


@pytest.mark.slow
@pytest.mark.timeout(420)
@pytest.mark.parametrize(("seed", "deploys"), [(5, False), (6, True)])
def test_no_tick_and_no_scheduled_job_is_missed_or_doubled(
    valkey, proxy, resqued, tmp_path, seed, deploys
):
    options = Options(seed=seed, deploys=deploys)

    def launch():
        expected = {"expect_errors": EXPECTED_ERRORS, "RQ_REDIS_URL": proxy.url}
        return resqued(*arguments(deploys), **expected)

    launches = dict.fromkeys((KILLED, PAUSED, TURNED), launch)
    report = play(options, launches, valkey, proxy, tmp_path)

    print(report)
    assert not report.problems, "\n".join([*report.problems, f"again: {options.replay()}"])
    assert report.ticks.enqueued > 20 * options.seconds
    assert report.scheduled.enqueued + report.cancelled == options.jobs
    assert report.cancelled and report.faults["lost"] and report.paused > 16


def test_what_is_wrong_with_ticks_is_noticed():
    ticks = [1000, 2000, 2000, 4000, 4500]
    tally = judge_ticks(Periodic("name", 1000, 5000, ticks, counted=4, missed=0))
    assert (tally.expected, tally.enqueued) == (5, 5)
    assert tally.missing == ["name 3000", "name 5000"]
    assert tally.double == ["name 2000"]
    assert tally.wrong == ["name 4500: no tick of it"]
    whole = [1000, 2000, 3000]
    assert not judge_ticks(Periodic("name", 1000, 3000, whole, counted=3, missed=0)).problems("")
    assert judge_ticks(Periodic("name", 1000, 3000, whole, counted=4, missed=0)).double
    assert judge_ticks(Periodic("name", 1000, 3000, whole, counted=3, missed=1)).wrong


def test_what_is_wrong_with_scheduled_jobs_is_noticed():
    orders = [Order(each, "due-0", 0.0, 1) for each in ("once", "twice", "never", "later", "not")]
    enqueued = ["once", "twice", "twice", "not", "strange"]
    tally = judge_scheduled(orders, {"not"}, enqueued, {"later", "once"})
    assert (tally.expected, tally.enqueued) == (4, 3)
    assert tally.missing == ["later still scheduled", "never nowhere"]
    assert tally.double == ["once", "twice"]
    assert tally.wrong == ["not", "strange"]


def test_orders_and_blows_follow_from_the_seed():
    orders = make_orders(7, 25, 600)
    assert orders == make_orders(7, 25, 600) != make_orders(8, 25, 600)
    assert make_blows(7, 25, 17) == make_blows(7, 25, 17) != make_blows(8, 25, 17)
    assert sum(order.cancelled is not None for order in orders) > 30
    assert all(order.cancelled is None or order.cancelled >= order.made for order in orders)
