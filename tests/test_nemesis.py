"""Faults at random while jobs stream in: none is lost. `tests/nemesis/run` does it for longer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rq import Queue

from harness import jobs
from harness.waiting import wait_for_exit
from nemesis.check import judge
from nemesis.history import Attempt, unexcused
from nemesis.load import STOCK, Order, make_load, quick
from nemesis.plan import make_plan
from nemesis.rounds import Options, play
from nemesis.striking import Strike
from nemesis.systems import Pool, Resqued

pytestmark = pytest.mark.slow


def arbiter(resqued, options, directory, url, ledger=None):
    """One that the nemesis starts, and starts again."""
    words = Resqued.arguments(options.workers, directory / "pid", options.policy)
    surroundings = {"RQ_REDIS_URL": url, "RESQUED_LEDGER": str(ledger or directory / "ledger")}
    expected = Resqued.EXPECTED_ERRORS
    return Resqued(lambda: resqued(*words, expect_errors=expected, **surroundings))


@pytest.mark.timeout(420)
@pytest.mark.parametrize(("seed", "policy"), [(2, "requeue"), (1, "fail")])
def test_no_job_is_lost_whatever_happens(valkey, proxy, resqued, tmp_path, seed, policy):
    options = Options(seed=seed, seconds=15, jobs=700, workers=4, policy=policy, settle=60)
    ledger = tmp_path / "ledger"

    report = play(options, arbiter(resqued, options, tmp_path, proxy.url), valkey, proxy, ledger)

    print(report)
    assert not report.problems, "\n".join([*report.problems, f"again: {options.replay()}"])
    assert report.jobs == options.jobs


@pytest.mark.timeout(420)
def test_no_job_is_lost_with_others_beside(valkey, proxy, resqued, tmp_path):
    options = Options(seed=33, seconds=15, jobs=600, workers=4, beside=True, settle=60)
    ledger = tmp_path / "ledger"
    (tmp_path / "second").mkdir()
    second = arbiter(resqued, replace(options, workers=2), tmp_path / "second", proxy.url, ledger)
    pool = Pool(Pool.launch(1, tmp_path, proxy.url, ledger, [STOCK]))
    struck = arbiter(resqued, options, tmp_path, proxy.url)
    try:
        report = play(options, struck, valkey, proxy, ledger, [second, pool])
    finally:
        if pool.starts:
            pool.root.terminate()
            wait_for_exit(pool.root, 60)

    print(report)
    assert not report.problems, "\n".join([*report.problems, f"again: {options.replay()}"])
    assert report.jobs == options.jobs


def test_stock_rq_is_judged_by_the_same(valkey, proxy, tmp_path, no_process_left):
    options = Options(seconds=1, jobs=20, workers=2, stock=True, every=1e9)
    ledger = tmp_path / "ledger"
    pool = Pool(Pool.launch(options.workers, tmp_path, proxy.url, ledger))

    report = play(options, pool, valkey, proxy, ledger)

    pool.root.terminate()
    wait_for_exit(pool.root, 30)
    assert report.verdict.problems() == []
    assert report.jobs == 20


def test_plan_and_load_follow_from_the_seed():
    assert make_plan(7, 60) == make_plan(7, 60) != make_plan(8, 60)
    assert make_load(7, 100) == make_load(7, 100) != make_load(8, 100)
    assert make_plan(7, 0) == []


def test_a_fault_may_strike_any_run_of_a_job_that_repeats():
    runs = [Attempt("job", pid, float(pid), "end", pid + 0.5) for pid in (10, 11, 12, 13)]
    struck = [Strike("worker", 10.2, 0.0, pid=10)]
    assert unexcused(runs, struck, 2) == []
    assert unexcused(runs, [], 2) == [(runs[2], runs[3])]
    assert unexcused(runs, struck, 1) == [(runs[2], runs[3])]
    cut = [Attempt("job", 10, 10.0, "cut", 10.5), *runs[1:]]
    assert unexcused(cut, [], 2) == [(cut[0], cut[1])]


def test_what_goes_wrong_is_noticed(connection):
    high = Queue("high", connection=connection)
    orders = [Order(job_id, "high", quick) for job_id in ("lost", "late", "taken", "again")]
    for order in orders:
        high.enqueue(jobs.noop, job_id=order.job_id)
    connection.lrem(high.key, 0, "lost")
    connection.lrem(high.key, 0, "taken")
    connection.rpush(f"{high.key}:intermediate", "taken")
    connection.lrem(high.key, 0, "again")
    connection.zadd("rq:finished:high", {"again": 1})
    connection.hset("rq:job:again", "status", "finished")
    history = {
        "again": [Attempt("again", 10, at=1.0), Attempt("again", 11, 2.0, "end", 3.0, True)],
        "late": [Attempt("late", 12, at=1.0), Attempt("late", 13, at=2.0)],
    }
    strikes = [Strike("worker", 1.5, 0.0, pid=12)]

    verdict = judge(connection, orders, history, strikes, "requeue")

    assert verdict.nowhere.keys() == {"lost"}
    assert verdict.waiting.keys() == {"late"}
    assert verdict.stuck.keys() == {"taken"}
    assert verdict.overlaps == ["again"]
    assert verdict.unexcused.keys() == {"again"}
    assert sorted(verdict.again) == ["again", "late"]
    assert verdict.finished == 1
    assert len(verdict.problems()) == 5
