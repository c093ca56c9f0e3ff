"""Due jobs: moved once, by who holds the lock, and left as RQ's scheduler leaves them."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from redis.exceptions import ReadOnlyError
from rq import Callback, Queue, Repeat, Retry
from rq.rate_limit import RateLimit
from rq.scheduler import RQScheduler

from broker.conftest import contents
from harness import jobs
from resqued.broker import schedule
from resqued.broker.schedule import DueJobs, enqueue_due

LOCK, REGISTRY = "rq:scheduler-lock:q", "rq:scheduled:q"
NOW = timedelta(0)


@pytest.fixture
def due(connection):
    return DueJobs(connection, "arbiter", 15.0)


@pytest.fixture
def q(connection):
    return Queue("q", connection=connection)


def drain(due, name="q"):
    """Move all that is due; how many."""
    (found,) = due.look([name])
    total = 0
    while found.held:
        moved = due.move(name)
        total += moved.count
        if moved.is_empty:
            break
    return total


JOBS = {
    "plain": lambda q: q.enqueue_in(NOW, jobs.noop, job_id="j"),
    "at front": lambda q: [
        q.enqueue_in(NOW, jobs.noop, job_id=each, at_front=True) for each in ("j", "k")
    ],
    "with a ttl": lambda q: q.enqueue_in(NOW, jobs.noop, job_id="j", ttl=100),
    "with a timeout": lambda q: q.enqueue_in(NOW, jobs.noop, job_id="j", job_timeout=7),
    "with callbacks": lambda q: q.enqueue_in(
        NOW, jobs.noop, job_id="j", on_success=Callback(jobs.noop), meta={"a": 1}
    ),
    "a retry, to the front": lambda q: q.connection.hset(
        q.enqueue_in(NOW, jobs.noop, job_id="j", retry=Retry(max=3, enqueue_at_front=True)).key,
        "ended_at",
        "2026-11-29T06:00:00.000000Z",
    ),
    "a repetition": lambda q: q.enqueue_in(
        NOW, jobs.noop, job_id="j", repeat=Repeat(times=3, interval=5)
    ),
    "rate limited, a place free": lambda q: q.enqueue_in(
        NOW, jobs.noop, job_id="j", rate_limit=RateLimit("r", 1)
    ),
    "rate limited, no place free": lambda q: [
        q.enqueue_in(NOW, jobs.noop, job_id=each, rate_limit=RateLimit("r", 1))
        for each in ("j", "k", "l")
    ],
    "rate limited, at front": lambda q: q.enqueue_in(
        NOW, jobs.noop, job_id="j", at_front=True, rate_limit=RateLimit("r", 1)
    ),
    "gone": lambda q: q.connection.delete(q.enqueue_in(NOW, jobs.noop, job_id="j").key),
    "of another queue's timeout": lambda q: q.connection.hdel(
        q.enqueue_in(NOW, jobs.noop, job_id="j").key, "timeout"
    ),
}


def _left(connection):
    """What the server holds, without what differs between two runs."""
    found = contents(connection)
    found.pop(LOCK, None)
    for fields in found.values():
        if isinstance(fields, dict):
            for name in (b"created_at", b"enqueued_at", b"data"):
                if name in fields:
                    fields[name] = bool(fields[name])
    for name in [name for name in found if name.endswith(("allowed", "rate_limited"))]:
        found[name] = [member for member, _ in found[name]]
    ttls = {name: connection.ttl(name) > 0 for name in found}
    return found, ttls


@pytest.mark.parametrize("make", JOBS.values(), ids=JOBS)
def test_it_leaves_what_rqs_scheduler_leaves(due, q, connection, make):
    make(q)
    scheduler = RQScheduler(["q"], connection=connection, name="arbiter")
    scheduler._connection = connection
    scheduler.acquire_locks()
    scheduler.enqueue_scheduled_jobs()
    theirs = _left(connection)
    connection.flushall()
    make(q)
    drain(due)
    assert _left(connection) == theirs


def test_only_what_is_due_is_moved_and_the_next_is_known(due, q, connection):
    q.enqueue_in(timedelta(seconds=50), jobs.noop, job_id="later")
    q.enqueue_in(NOW, jobs.noop, job_id="now")
    assert drain(due) == 1
    assert q.job_ids == ["now"]
    (found,) = due.look(["q"])
    assert (found.held, found.count) == (True, 0)
    assert 45 < found.wait <= 50


def test_another_holder_moves_nothing(due, q, connection):
    """One that was paused for longer than its lock lives, and goes on."""
    q.enqueue_in(NOW, jobs.noop)
    (found,) = due.look(["q"])
    assert found.held and found.count == 1
    connection.set(LOCK, "another")
    moved = due.move("q")
    assert not moved.held and moved.is_empty
    assert q.count == 0
    (found,) = due.look(["q"])
    assert not found.held
    assert connection.get(LOCK) == b"another"


def test_the_lock_lives_for_as_long_as_it_is_looked(connection):
    due = DueJobs(connection, "arbiter", 15.0)
    due.look(["q"])
    assert 14000 < connection.pttl(LOCK) <= 15000
    connection.pexpire(LOCK, 9000)
    due.look(["q"])
    assert connection.pttl(LOCK) <= 9000, "it is not written at each look"
    connection.pexpire(LOCK, 7000)
    due.look(["q"])
    assert 14000 < connection.pttl(LOCK) <= 15000
    due.release(["q"])
    assert not connection.exists(LOCK)


def test_a_cancelled_job_does_not_run(due, q):
    job = q.enqueue_in(NOW, jobs.noop)
    due.look(["q"])
    job.cancel()
    assert due.move("q").count == 0
    assert q.job_ids == []


def test_one_that_is_both_cancelled_and_scheduled_does_not_run(due, q, connection):
    """As RQ before 1.8 could leave it."""
    job = q.enqueue_in(NOW, jobs.noop)
    connection.hset(job.key, "status", "canceled")
    drain(due)
    assert q.job_ids == []
    assert not connection.exists(REGISTRY)


def test_a_thousand_odd_ones_at_the_head_hold_up_nobody(due, q, connection, monkeypatch, capfd):
    connection.zadd(REGISTRY, {f"odd{n}": 1 for n in range(1000)})
    connection.zadd(REGISTRY, {b"\xff": 1})
    with connection.pipeline() as pipeline:
        for n in range(1000):
            pipeline.set(f"rq:job:odd{n}", "x")
        pipeline.execute()
    jobs_ = [q.enqueue_in(NOW, jobs.noop).id for _ in range(3)]
    assert drain(due) == 3
    assert sorted(q.job_ids) == sorted(jobs_)
    assert connection.zcard(REGISTRY) == 1001
    lines = [line for line in capfd.readouterr().err.splitlines() if "cannot be read" in line]
    assert 1 <= len(lines) <= 1 + 1001 // schedule.SLICE, "one for each slice"
    (found,) = due.look(["q"])
    assert found.count == 0, "they are not tried at each look"
    job = q.enqueue_in(NOW, jobs.noop)
    (found,) = due.look(["q"])
    assert found.count == 1
    assert due.move("q").count == 1 and job.id in q.job_ids

    # A minute later they are tried again.
    for n in range(1000):
        connection.delete(f"rq:job:odd{n}")
    connection.hset("rq:job:odd7", mapping={"data": "d", "status": "scheduled"})
    clock = time.monotonic() + 61
    monkeypatch.setattr(schedule.time, "monotonic", lambda: clock)
    assert drain(due) == 1
    assert connection.zrange(REGISTRY, 0, -1) == [b"\xff"]


def test_ids_that_are_text_and_no_ascii_are_moved_too(due, q, connection):
    """RQ makes none by itself any more, and older versions took any."""
    job = q.enqueue_in(NOW, jobs.noop, job_id="j")
    connection.rename(job.key, "rq:job:é b")
    connection.zadd(REGISTRY, {"é b": 1})
    connection.zrem(REGISTRY, "j")
    assert drain(due) == 1
    assert connection.lrange("rq:queue:q", 0, -1) == ["é b".encode()]


def test_a_queue_of_another_type_is_set_aside(due, q, connection):
    q.enqueue_in(NOW, jobs.noop, job_id="j")
    connection.set("rq:queue:q", "x")
    assert drain(due) == 1
    assert q.job_ids == ["j"]
    assert connection.get("rq:queue:q:set-aside") == b"x"


@pytest.mark.parametrize("key", [LOCK, REGISTRY])
def test_a_queue_with_a_key_of_another_type_does_not_disturb_the_others(due, connection, key):
    connection.hset(key, "a", "b")
    Queue("r", connection=connection).enqueue_in(NOW, jobs.noop)
    first, second = due.look(["q", "r"])
    assert not first.held and second.count == 1


def test_a_limit_of_another_type_leaves_the_job_where_it_is(due, q, connection):
    connection.set("rq:rl:r", "x")
    q.enqueue_in(NOW, jobs.noop, job_id="j", rate_limit=RateLimit("r", 1))
    assert drain(due) == 0
    assert connection.zrange(REGISTRY, 0, -1) == [b"j"]


def test_many_are_moved_in_slices_and_in_their_order(due, q, connection):
    made = [q.enqueue_in(timedelta(seconds=-n), jobs.noop).id for n in range(2100, 0, -1)]
    due.look(["q"])
    assert due.move("q").count == schedule.SLICE
    assert drain(due) == 2100 - schedule.SLICE
    assert q.job_ids == made


def test_nothing_is_lost_when_memory_is_short(due, q, connection):
    job = q.enqueue_in(NOW, jobs.noop)
    before = connection.config_get("maxmemory")["maxmemory"]
    due.look(["q"])
    connection.config_set("maxmemory", 1)
    try:
        with pytest.raises(Exception, match="maxmemory"):
            due.move("q")
    finally:
        connection.config_set("maxmemory", before)
    assert connection.zscore(REGISTRY, job.id) is not None
    assert drain(due) == 1


def test_without_an_arbiter_all_is_moved_at_once(q, connection):
    ids = [q.enqueue_in(NOW, jobs.noop).id for _ in range(600)]
    connection.set(LOCK, "worker", ex=61)
    enqueue_due(connection, ["q"], "worker")
    assert sorted(q.job_ids) == sorted(ids)


def test_a_server_that_takes_no_writes_is_an_outage(due, q, connection):
    connection.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(ReadOnlyError):
            due.look(["q"])
    finally:
        connection.execute_command("REPLICAOF", "NO", "ONE")
