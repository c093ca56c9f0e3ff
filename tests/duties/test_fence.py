"""The locks of keepers, and writes that are refused once there is a newer one."""

from __future__ import annotations

import pytest
from rq.job import Job

from harness.waiting import wait_for
from resqued.broker.keeper_locks import KEEPERS, LIFE, LOCK, KeeperLocks
from resqued.duties import Superseded, fenced


@pytest.fixture
def locks(connection):
    """`locks("host.1")`: those of a process of this arbiter."""
    return lambda holder: KeeperLocks(connection, holder)


def test_one_is_the_keeper_until_its_lock_ends(connection, locks):
    first, second = locks("a"), locks("b")
    token = first.hold("x").token
    assert token > 0
    refused = second.hold("x")
    assert refused.token == 0
    assert LIFE - 5 < refused.wait <= LIFE
    assert first.hold("x").token == token
    assert second.hold("y").token > token
    connection.delete(LOCK + "x")
    newer = second.hold("x").token
    assert newer > token
    assert first.hold("x").token == 0
    assert (first.held, second.held) == ([], ["y", "x"])


def test_a_process_of_the_same_arbiter_takes_over_at_once_and_for_good(locks):
    old, new = locks("a"), locks("a")
    token = old.hold("x").token
    newer = new.hold("x").token
    assert newer > token
    assert old.hold("x").token == 0
    assert old.hold("x").token == 0
    assert new.hold("x").token == newer


def test_a_lock_that_nobody_has_taken_meanwhile_keeps_its_token(connection, locks):
    keeper = locks("a")
    token = keeper.hold("x").token
    connection.delete(LOCK + "x")
    assert keeper.hold("x").token == token
    assert 0 < connection.pttl(LOCK + "x") <= LIFE * 1000


def test_who_leaves_lets_another_take_over(connection, locks):
    first, second = locks("a"), locks("b")
    first.hold("x")
    first.hold("y")
    first.release()
    assert connection.keys(f"{LOCK}*") == []
    assert second.hold("x").token
    first.release()
    assert second.hold("x").token


def test_who_has_been_succeeded_releases_nothing(locks):
    old, new = locks("a"), locks("a")
    old.hold("x")
    token = new.hold("x").token
    old.release()
    assert locks("b").hold("x").token == 0
    assert new.hold("x").token == token


def _milliseconds(connection):
    seconds, micros = connection.time()
    return seconds * 1000 + micros // 1000


def test_tokens_grow_also_when_redis_has_lost_them(connection, locks):
    token = locks("a").hold("x").token
    connection.flushdb()
    wait_for(lambda: _milliseconds(connection) > token, 5, "the next millisecond")
    assert locks("a").hold("x").token > token
    connection.hset(KEEPERS, "last", 10**15)
    connection.delete(LOCK + "x")
    assert locks("b").hold("x").token == 10**15 + 1


def test_a_successor_learns_when_the_duty_is_due(locks):
    old, new = locks("a"), locks("a")
    token = old.hold("x").token
    old.set_due("x", token, 50.0)
    taken = new.hold("x")
    assert 45 < taken.wait <= 50
    old.set_due("x", token, 1000.0)
    assert new.hold("x").wait <= 50


def test_a_fenced_write_is_done_by_the_keeper_alone(connection, locks):
    old, new = locks("a"), locks("a")
    token = old.hold("x").token
    with fenced(connection, token) as pipeline:
        pipeline.set("k", "old")
        pipeline.incr("n")
    newer = new.hold("x").token
    with (
        pytest.raises(Superseded, match=f"token {token} is not in force"),
        fenced(connection, token) as pipeline,
    ):
        pipeline.set("k", "older")
    with fenced(connection, newer) as pipeline:
        pipeline.set("k", "new")
    assert connection.mget("k", "n") == [b"new", b"1"]


def test_it_is_refused_when_a_newer_keeper_comes_in_the_block(connection, locks):
    token = locks("a").hold("x").token
    with pytest.raises(Superseded) as caught, fenced(connection, token) as pipeline:
        pipeline.set("k", "old")
        newer = locks("a").hold("x").token
    assert caught.value.token == token
    assert caught.value.newest in (None, newer)
    assert connection.get("k") is None


def test_the_keeper_of_another_duty_does_not_disturb(connection, locks):
    token = locks("a").hold("x").token
    with fenced(connection, token) as pipeline:
        pipeline.set("k", "1")
        locks("b").hold("y")
    assert connection.get("k") == b"1"


def test_a_block_that_executes_by_itself_is_fenced_too(connection, locks):
    token = locks("a").hold("x").token
    with fenced(connection, token) as pipeline:
        pipeline.set("k", "1")
        assert pipeline.execute() == [True]
        pipeline.set("k", "2")
    assert connection.get("k") == b"2"
    with pytest.raises(Superseded), fenced(connection, token) as pipeline:
        pipeline.set("k", "3")
        pipeline.execute()
        locks("a").hold("x")
        pipeline.set("k", "4")
    assert connection.get("k") == b"3"


def test_a_job_is_enqueued_in_the_same_step(connection, locks, queue):
    old = locks("a")
    token = old.hold("x").token
    with fenced(connection, token) as pipeline:
        job = queue().enqueue("operator.add", 1, 2, pipeline=pipeline)
    assert queue().job_ids == [job.id]
    with pytest.raises(Superseded), fenced(connection, token) as pipeline:
        job = queue().enqueue("operator.add", 3, 4, pipeline=pipeline)
        locks("a").hold("x")
    assert queue().count == 1
    assert not Job.exists(job.id, connection)


def test_a_block_that_raises_writes_nothing(connection, locks):
    token = locks("a").hold("x").token
    with pytest.raises(ZeroDivisionError), fenced(connection, token) as pipeline:
        pipeline.set("k", "1")
        pipeline.set("n", 1 / 0)
    assert connection.exists("k") == 0


def test_what_is_no_token_is_refused(connection):
    with pytest.raises(ValueError, match='once="fleet"'):
        fenced(connection, 0)
    with (
        pytest.raises(Superseded, match="not in force any more; nothing was written"),
        fenced(connection, 12),
    ):
        pass
