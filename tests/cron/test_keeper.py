"""The keeper of periodic jobs, with a real Redis: each tick once, whoever tries."""

from __future__ import annotations

import time

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry as Attempts
from rq.cron import CronScheduler, get_cron_job_ids
from rq.job import Job

from harness import jobs
from harness.cron_jobs import FUNCTION, definition, state, turn
from resqued.broker import cron_records
from resqued.broker.cron_control import pause_job, read_kept, resume_job, run_job, with_rivals
from resqued.broker.cron_keys import PREFIX, state_key
from resqued.broker.pauses import Pause
from resqued.cron.misfire import Misfire


def test_an_interval_runs_at_once_and_then_on_its_grid(keeper, q, connection):
    each = keeper(definition())
    each.step()
    assert len(q.job_ids) == 1
    turn(each, until=lambda: len(q.job_ids) == 4, what="three more")
    first = float(state(connection)[b"first"])
    ticks = [int(name.rpartition("-")[2]) / 1000 for name in q.job_ids]
    assert ticks == pytest.approx([first + number * 0.2 for number in range(4)], abs=0.002)


def test_the_record_is_as_rq_writes_it(keeper, q, connection):
    options = {"job_timeout": 7, "ttl": 500, "result_ttl": 3, "meta": {"a": 1}}
    keeper(
        definition(interval=60, args=(1,), kwargs={"a": 2}, options=options | {"at_front": True})
    ).step()
    ours = connection.hgetall(f"rq:job:{q.job_ids[0]}")
    ttl = connection.ttl(f"rq:job:{q.job_ids[0]}")
    job = q.enqueue(FUNCTION, args=(1,), kwargs={"a": 2}, **options)
    theirs = connection.hgetall(job.key)
    for record in (ours, theirs):
        for name in (b"created_at", b"enqueued_at"):
            assert record.pop(name)
    assert ours == theirs
    assert ttl == pytest.approx(connection.ttl(job.key), abs=2)
    assert get_cron_job_ids("each second", connection) == [q.job_ids[0]]
    assert connection.smembers("rq:queues") == {b"rq:queue:q"}


def test_many_arbiters_enqueue_each_tick_once(keeper, q):
    all_of_them = [keeper(definition(), arbiter=name) for name in ("one", "two", "three")]
    turn(*all_of_them, until=lambda: len(q.job_ids) >= 5, what="five ticks")
    assert len(set(q.job_ids)) == len(q.job_ids)
    ticks = sorted(int(name.rpartition("-")[2]) for name in q.job_ids)
    assert ticks == list(range(ticks[0], ticks[0] + 200 * len(ticks), 200))


def test_a_restart_neither_repeats_nor_misses(keeper, q):
    keeper(definition(interval=600)).step()
    keeper(definition(interval=600), arbiter="two").step()
    assert len(q.job_ids) == 1


def test_another_arbiter_takes_over_when_the_keeper_is_silent(keeper, q):
    keeper(definition()).step()
    other = keeper(definition(), arbiter="two")
    turn(other, until=lambda: len(q.job_ids) > 1, what="the next tick")


def test_ticks_missed_follow_misfire(keeper, q, connection):
    for misfire, expected in ((Misfire.ONCE, 1), (Misfire.SKIP, 0), (Misfire.ALL, 3)):
        connection.flushdb()
        missed = definition(interval=100, misfire=misfire, grace=86400)
        keeper(missed).step()
        connection.hincrbyfloat(state_key(missed.key), "first", -370)
        connection.hincrbyfloat(state_key(missed.key), "last", -370)
        q.empty()
        keeper(missed).step()
        assert len(q.job_ids) == expected, misfire


def test_a_last_tick_in_the_future_is_brought_back(keeper, q, connection):
    keeper(definition()).step()
    connection.hset(state_key("each second"), "last", f"{time.time() + 7200:.3f}")
    again = keeper(definition(), arbiter="one")
    again.step()
    assert float(state(connection)[b"last"]) == pytest.approx(time.time(), abs=5)
    assert len(q.job_ids) == 1
    turn(again, until=lambda: len(q.job_ids) > 1, what="the next tick")


def test_no_new_job_while_the_last_one_is_unfinished(keeper, q, connection):
    each = keeper(definition(overlap=False))
    turn(each, until=lambda: int(state(connection).get(b"skipped", 0)) >= 2, what="skips")
    assert len(q.job_ids) == 1
    Job.fetch(q.job_ids[0], connection).delete()
    turn(each, until=lambda: len(q.job_ids) == 1, what="the next one, since the hash is gone")


def test_a_pause_is_for_all_and_ticks_count_from_its_end(keeper, q, connection):
    each = keeper(definition())
    each.step()
    assert pause_job(connection, "each second", Pause("me", 1.0)) == "done"
    assert pause_job(connection, "each second", Pause("me", 1.0)) == "already"
    assert pause_job(connection, "no such", Pause("me", 1.0)) == "unknown"
    before = time.monotonic()
    turn(each, until=lambda: time.monotonic() > before + 0.7, what="some ticks")
    assert len(q.job_ids) == 1
    connection.hincrbyfloat(state_key("each second"), "last", -50)
    assert resume_job(connection, "each second") == "done"
    again = keeper(definition())
    turn(again, until=lambda: len(q.job_ids) == 2, what="the next tick")
    assert state(connection).get(b"missed") is None


def test_a_reply_that_is_lost_enqueues_once(keeper, q, connection, monkeypatch):
    each = keeper(definition(interval=600))
    ask = each._store.tick

    def lose(ticks):
        ask(ticks)
        raise ConnectionError

    monkeypatch.setattr(each._store, "tick", lose)
    with pytest.raises(ConnectionError):
        each.step()
    monkeypatch.setattr(each._store, "tick", ask)
    each.step()
    assert len(q.job_ids) == 1
    assert state(connection)[b"enqueued"] == b"1"


def test_a_lost_connection_is_no_reason_to_wait(connection, proxy, keeper, q):
    client = redis.Redis.from_url(proxy.url, retry=Attempts(NoBackoff(), 0))
    each = keeper(definition(), client=client)
    for lose in (proxy.cut_before, proxy.swallow_reply):
        lose(b"EVALSHA")
        each._due.beat = 0.0
        assert each.step() < time.time() + 0.2
        assert proxy.swallowed.is_set()
    turn(each, until=lambda: len(q.job_ids) > 1, what="ticks")
    assert len(set(q.job_ids)) == len(q.job_ids)
    proxy.refuse()
    with pytest.raises(redis.ConnectionError):
        turn(each, until=lambda: False, what="an error")


def test_connections_lost_in_a_row_are_no_outage_while_redis_answers(proxy, keeper, q, capfd):
    each = keeper(
        definition(), client=redis.Redis.from_url(proxy.url, retry=Attempts(NoBackoff(), 0))
    )
    for _ in range(8):
        proxy.cut_before(b"EVALSHA")
        each._due.beat = 0.0
        assert each.step() < time.time() + 1
    turn(each, until=lambda: len(q.job_ids) > 1, what="ticks")
    assert capfd.readouterr().err.count("times in a row") == 1


def test_redis_was_flushed(keeper, q, connection):
    each = keeper(definition())
    each.step()
    connection.flushall()
    turn(each, until=lambda: len(q.job_ids) > 0, what="it to be told again")
    turn(each, until=lambda: CronScheduler.all(connection), what="RQ's tools to see it again")


@pytest.mark.parametrize("takeover", [False, True])
def test_beside_an_rq_cron(keeper, q, connection, takeover):
    scheduler = CronScheduler(connection)
    scheduler.register(jobs.noop, "q", interval=1, name="each second")
    scheduler.register_birth()
    each = keeper(definition(), definition(name="another", queue="r"), takeover=takeover)
    turn(each, until=lambda: connection.llen("rq:queue:r") >= 2, what="the other job's ticks")
    assert bool(q.job_ids) == takeover
    assert [job.rival for job in with_rivals(connection, read_kept(connection)).jobs] == [
        "",
        f"pid {scheduler.pid} on {scheduler.hostname}",
    ]
    scheduler.register_death()
    assert not any(job.rival for job in with_rivals(connection, read_kept(connection)).jobs)
    each._due.beat = 0.0
    turn(each, until=lambda: len(q.job_ids) > 0, what="its ticks")
    assert state(connection).get(b"missed") is None


def test_rqs_own_tools_show_it(keeper, connection):
    keeper(definition()).step()
    (scheduler,) = CronScheduler.all(connection)
    assert [job.name for job in scheduler.get_jobs()] == ["each second"]
    keeper(definition("daily", interval=None, cron="0 3 * * *"), arbiter="three").step()
    daily = next(each for each in CronScheduler.all(connection) if each.name == "three")
    assert daily.get_jobs()[0].latest_enqueue_time is None  # none was enqueued yet
    cron_records.leave(connection, "three")
    keeper(definition(), arbiter="two").step()  # ours are no rivals
    assert {each.name for each in CronScheduler.all(connection)} == {"one", "two"}


def test_a_rate_limited_job_goes_by_the_schedule(keeper, connection):
    from rq.rate_limit import RateLimit

    keeper(definition(options={"rate_limit": RateLimit("k", 1)})).step()
    assert connection.llen("rq:queue:q") == 0
    assert connection.zcard("rq:scheduled:q") == 1


def test_run_now(keeper, q, connection):
    keeper(definition(interval=600, overlap=False)).step()
    (kept,) = read_kept(connection).jobs
    assert (kept.name, kept.status, kept.keeper) == ("each second", "queued", "one")
    pause_job(connection, kept.key, Pause("me", 1.0))
    what, new = run_job(connection, kept)
    assert (what, q.job_ids[1]) == ("done", new)
    assert Job.fetch(new, connection).get_status() == "queued"
    connection.delete(f"{PREFIX}seen")
    assert run_job(connection, kept)[0] == "alone"


def test_jobs_of_nobody_are_forgotten(keeper, connection):
    each = keeper(definition())
    each.step()
    connection.zadd(f"{PREFIX}jobs", {"old": time.time() - 31 * 86400})
    connection.hset(state_key("old"), "digest", "x")
    each._due.forget = 0.0
    each.step()
    assert connection.zrange(f"{PREFIX}jobs", 0, -1) == [b"each second"]
    assert not connection.exists(state_key("old"))


def test_jitter_follows_from_job_and_tick(keeper, connection, q):
    spread = definition(interval=0.5, jitter=0.4)
    turn(
        *(keeper(spread, arbiter=name) for name in ("one", "two")),
        until=lambda: len(q.job_ids) >= 3,
        what="three ticks",
    )
    ticks = sorted(int(name.rpartition("-")[2]) for name in q.job_ids)
    assert ticks == list(range(ticks[0], ticks[0] + 500 * len(ticks), 500))


def test_failures_in_a_row_are_counted(keeper, q, connection):
    each = keeper(definition())
    for number in range(3):
        turn(each, until=lambda: q.job_ids, what="a job")
        connection.hset(f"rq:job:{q.job_ids[-1]}", mapping={"status": "failed"})
        (kept,) = read_kept(connection).jobs
        assert kept.failures == number + 1
        q.empty() if number < 2 else None
        connection.hset(f"rq:job:{kept.job}", mapping={"status": "failed"})
    connection.hset(
        f"rq:job:{kept.job}", mapping={"status": "finished", "ended_at": "2026-11-29T06:00:00.0Z"}
    )
    (kept,) = read_kept(connection).jobs
    assert (kept.failures, kept.success) == (0, 1795932000.0)
    before = len(q.job_ids)
    turn(each, until=lambda: len(q.job_ids) > before, what="the next tick")
    (kept,) = read_kept(connection).jobs
    assert (kept.failures, kept.success) == (0, 1795932000.0)


def test_failures_of_jobs_that_take_longer_than_a_period_are_counted(keeper, q, connection):
    """At the next tick they run, or wait for a retry."""
    each = keeper(definition())
    turn(each, until=lambda: len(q.job_ids) >= 4, what="ticks")
    assert read_kept(connection).jobs[0].failures == 0
    before = q.job_ids
    for name in before[:3]:
        connection.hset(f"rq:job:{name}", "status", "failed")
    turn(each, until=lambda: len(q.job_ids) > len(before), what="the next tick")
    assert read_kept(connection).jobs[0].failures == 3
    connection.hset(f"rq:job:{before[3]}", "status", "finished")
    before = q.job_ids
    turn(each, until=lambda: len(q.job_ids) > len(before), what="the next tick")
    assert read_kept(connection).jobs[0].failures == 0


def test_of_jobs_that_never_end_not_all_are_remembered(keeper, q, connection):
    each = keeper(definition(interval=1.0, misfire=Misfire.ALL))
    each.step()
    connection.hincrbyfloat(state_key("each second"), "last", -40)
    connection.hincrbyfloat(state_key("each second"), "first", -40)
    each._due.announce = 0.0
    turn(each, until=lambda: len(q.job_ids) > 30, what="ticks")
    assert len(state(connection)[b"open"].split()) == 20
