"""One look at a real server, whatever is stored there."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
import redis
from rq import Queue, Worker
from rq.scheduler import RQScheduler

from harness import jobs
from resqued.config import Config
from resqued.facts import MOST, Facts
from resqued.scoreboard import Record, Scoreboard, StewardStatus
from resqued.scoreboard.counts import slot_table
from resqued.shares import QueueShare
from resqued.steward.measure import Measure


@pytest.fixture
def look(connection):
    """`look()`: the facts of a whole look."""
    board = Scoreboard.create()
    board.set_steward_status(StewardStatus(serial=1))
    measure = Measure(connection, board, Config(queues=(QueueShare("mine"),)), 1)

    def look():
        measure.look_slowly()
        measure.step()
        return Facts.from_plain(board.facts.read())

    yield look
    board.close()


def test_a_queue_of_the_settings_is_measured_before_rq_knows_it(look):
    queue = look().queue("mine")
    assert (queue.waiting, queue.oldest, queue.started, queue.served) == (0, None, 0, 0)


def test_an_age_that_cannot_be_read_is_unknown(look, connection, queue):
    assert queue("a").enqueue(jobs.nothing).id
    assert 0 <= look().queue("a").oldest < 60
    for text in ("yesterday", "", "2026-11-30T02:00:00", b"\xff\xfe", "9" * 400):
        connection.hset(f"rq:job:{queue('a').job_ids[0]}", "enqueued_at", text)
        assert look().queue("a").oldest is None
    connection.delete(f"rq:job:{queue('a').job_ids[0]}")
    assert look().queue("a").oldest is None


def test_keys_of_another_type_are_unknown_and_hide_no_other(look, connection, queue):
    queue("a").enqueue(jobs.nothing)
    for name in ("b", "c"):
        connection.sadd("rq:queues", f"rq:queue:{name}")
    connection.set("rq:queue:b", "no list")
    connection.set("rq:scheduled:c", "no set")
    connection.set("rq:workers:c", "no set")
    connection.sadd("rq:queues", "no queue at all", b"rq:queue:\xff")
    facts = look()
    assert facts.queue("b") is None
    other = facts.queue("c")
    assert (other.scheduled, other.served, other.failed) == (None, None, 0)
    assert facts.queue("a").waiting == 1
    connection.delete("rq:queues")
    connection.set("rq:queues", "no set")
    assert [queue.name for queue in look().queues] == ["mine"]


def test_workers_that_have_died_serve_nothing(look, connection, queue):
    queue("a").enqueue(jobs.nothing)
    worker = Worker([queue("a")], connection=connection)
    worker.register_birth()
    assert look().queue("a").served == 1
    connection.delete(worker.key)  # it has expired
    assert look().queue("a").served == 0
    for number in range(20):
        connection.sadd("rq:workers:a", f"rq:worker:dead{number}")
    assert look().queue("a").served == 0
    worker = Worker([queue("a")], connection=connection)
    worker.register_birth()
    assert look().queue("a").served == 22


def test_a_scheduler_counts_for_the_queue_that_it_has_locked(look, connection, queue):
    assert look().scheduler is None
    for name in ("a", "b"):
        queue(name).enqueue_in(timedelta(hours=1), jobs.nothing)
    assert look().scheduler is False
    for name in ("a", "b"):
        connection.set(RQScheduler.get_locking_key(name), 1)
        facts = look()
        assert facts.queue(name).scheduler is True
        assert facts.scheduler is (name == "b")


def test_what_does_not_fit_is_summed_up_and_the_fullest_are_named(look, connection):
    with connection.pipeline(transaction=False) as pipeline:
        for number in range(MOST + 50):
            pipeline.sadd("rq:queues", f"rq:queue:q{number}")
            pipeline.rpush(f"rq:queue:q{number}", "x", *(["y"] if number % 2 else []))
        pipeline.execute()
    facts = look()
    assert len(facts.queues) == MOST and facts.queue("mine") is not None
    assert (facts.others, facts.others_waiting) == (51, 51)
    assert all(facts.queue(f"q{number}") for number in range(1, MOST + 50, 2))


def test_endless_names_do_not_crowd_out_the_facts(look, connection):
    with connection.pipeline(transaction=False) as pipeline:
        for number in range(600):
            name = f"{number}-" + "x" * 10000
            pipeline.sadd("rq:queues", f"rq:queue:{name}")
            pipeline.rpush(f"rq:queue:{name}", "y")
            pipeline.sadd("rq:queues", f"rq:queue:{number}-" + "\x01" * 900)
        pipeline.execute()
    facts = look()
    assert (len(facts.queues), facts.others, facts.others_waiting) == (400, 801, 600)
    assert facts.queue("mine") is not None


def test_a_user_that_may_not_measure_is_told_and_redis_still_answers(connection):
    board = Scoreboard.create()
    board.set_steward_status(StewardStatus(serial=1))
    connection.acl_setuser(
        "few",
        enabled=True,
        passwords="+secret",
        categories=["+@all"],
        commands=["-evalsha"],
        keys=["*"],
    )
    path = connection.connection_pool.connection_kwargs["path"]
    limited = redis.Redis(unix_socket_path=path, username="few", password="secret")
    try:
        measure = Measure(limited, board, Config(), 1)
        with pytest.raises(Exception, match="permissions"):
            measure.step()
        facts = Facts.from_plain(board.facts.read())
        assert facts.answers and "evalsha" in facts.error and not facts.queues
    finally:
        connection.acl_deluser("few")
        limited.close()
        board.close()


def test_the_rate_is_of_jobs_ended_here(look, connection, monkeypatch):
    board = Scoreboard.create()
    board.set_steward_status(StewardStatus(serial=1))
    measure = Measure(connection, board, Config(queues=(QueueShare("mine"),)), 1)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    measure.step()
    table = slot_table(board, 1)
    for _ in range(30):
        table.end("mine", "finished", 0.1)
    board.write(1, Record(done=30))
    now += 20
    measure.step()
    assert Facts.from_plain(board.facts.read()).queue("mine").per_minute == 90
    board.close()


def test_only_the_newest_steward_writes(connection):
    board = Scoreboard.create()
    board.set_steward_status(StewardStatus(serial=2))
    Measure(connection, board, Config(), 1).step()
    assert board.facts.read() == {}
    board.close()


def test_an_outage_is_told_before_the_first_answer_and_while_no_other_steward_turns(connection):
    board = Scoreboard.create()
    measure = Measure(connection, board, Config(), 1)
    measure.note_outage(ConnectionError("refused"))
    facts = Facts.from_plain(board.facts.read())
    assert not facts.answers and facts.error == "ConnectionError: refused"
    board.set_steward_status(StewardStatus(serial=1, turned=time.monotonic()))
    measure.step()
    since = Facts.from_plain(board.facts.read()).since
    successor = Measure(connection, board, Config(), 2)
    successor.note_outage(ConnectionError("refused"))  # perhaps only to this one
    facts = Facts.from_plain(board.facts.read())
    assert facts.answers and facts.since == since
    board.set_steward_status(StewardStatus(serial=1, turned=time.monotonic() - 60))
    successor.note_outage(ConnectionError("refused"))
    facts = Facts.from_plain(board.facts.read())
    assert not facts.answers and facts.since > since
    board.close()


def test_a_successor_tells_since_when_redis_answers(connection):
    board = Scoreboard.create()
    board.set_steward_status(StewardStatus(serial=1))
    Measure(connection, board, Config(), 1).step()
    since = Facts.from_plain(board.facts.read()).since
    board.set_steward_status(StewardStatus(serial=2))
    Measure(connection, board, Config(), 2).step()
    assert Facts.from_plain(board.facts.read()).since == since
    board.close()


def test_an_entry_of_the_started_jobs_that_has_expired_does_not_count(look, connection):
    connection.zadd("rq:wip:mine", {"gone:1": time.time() - 5, "runs:1": time.time() + 60})
    connection.zadd("rq:wip:mine", {"endless:1": "+inf"})
    assert look().queue("mine").started == 2


def test_queue_objects_agree(look, connection):
    """With RQ's own numbers."""
    queue = Queue("a", connection=connection)
    done = [queue.enqueue(jobs.nothing) for _ in range(3)]
    queue.failed_job_registry.add(done[0], ttl=100)
    queue.started_job_registry.connection.zadd(queue.started_job_registry.key, {"x:y": 9e9})
    found = look().queue("a")
    assert found.waiting == queue.count
    assert found.failed == queue.failed_job_registry.count
    assert found.started == 1
