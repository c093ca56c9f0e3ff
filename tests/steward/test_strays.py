"""A server that goes back in time: what it says that our workers hold, and they do not."""

from __future__ import annotations

import os

import pytest

from harness import jobs
from harness.oracle import assert_one_place_each
from harness.waiting import scaled, wait_for
from resqued import linux
from resqued.broker.owner import Owner
from resqued.scoreboard import Phase, Record, RecordWriter, Scoreboard
from resqued.steward.strays import GONE_FOR, Left, Strays

QUICK = ("--dead-after", 4, "--loop-timeout", 4)
CLAIMS, RUNNING = "rq:resqued:claims", "rq:resqued:running"


@pytest.fixture
def past(connection, queue, gate):
    """`past()`: take down all that Redis knows while a job is in hand; `past.returns()`: it is
    what Redis knows again."""

    class Past:
        def __init__(self):
            self.door = gate()
            self.job = queue("a").enqueue(jobs.wait_at, str(self.door))

        def take(self):
            self.door.wait_until_reached()
            wait_for(lambda: connection.hlen("rq:resqued:arbiters"), 10, "the first heartbeat")
            self.keys = {key: connection.dump(key) for key in connection.keys("rq:*")}
            self.door.open()
            wait_for(lambda: self.job.get_status() == "finished", 10, "the job to end")

        def returns(self):
            with connection.pipeline() as pipeline:
                pipeline.flushall()
                for key, value in self.keys.items():
                    pipeline.restore(key, 0, value)
                pipeline.execute()
            assert self.job.get_status() == "started"

    return Past


def ends(connection, job):
    wait_for(lambda: job.get_status() in ("finished", "failed"), 40, "the job to be found")
    wait_for(lambda: not connection.exists(CLAIMS, RUNNING), 10, "nothing to be left in flight")
    assert_one_place_each(connection, [job.id])


def test_an_execution_of_a_worker_that_is_idle(resqued, connection, queue, past):
    then = past()
    arbiter = resqued("-n", 1, "--queue", "a", *QUICK)
    then.take()
    then.returns()
    ends(connection, then.job)
    assert then.job.get_status() == "finished"
    assert len(arbiter.ledger.started(then.job.id)) == 2
    assert len(arbiter.workers()) == 1


def test_an_execution_of_a_worker_that_has_another_job(resqued, connection, queue, past, gate):
    then, door = past(), gate()
    arbiter = resqued("-n", 1, "--queue", "a", *QUICK)
    then.take()
    other = queue("a").enqueue(jobs.wait_at, str(door), job_timeout=600)
    door.wait_until_reached()
    kept = {key: connection.dump(key) for key in connection.keys(f"*{other.id}*")}
    now_running = connection.hgetall(RUNNING)
    wip = connection.zrange("rq:wip:a", 0, -1, withscores=True)
    then.returns()
    for key, value in kept.items():
        connection.restore(key, 0, value, replace=True)
    connection.hset(RUNNING, mapping=now_running)
    connection.zadd("rq:wip:a", dict(wip))
    wait_for(lambda: queue("a").job_ids == [then.job.id], 40, "the job to be put back")
    assert other.get_status() == "started", "the job in hand is left alone"
    assert connection.scard("rq:workers") == 1, "and so is its worker"
    door.open()
    wait_for(lambda: other.get_status() == "finished", 10, "the job in hand to end")
    ends(connection, then.job)
    assert len(arbiter.ledger.started(other.id)) == 1


def test_an_execution_and_a_claim_of_a_worker_that_has_left(resqued, connection, queue, past):
    then = past()
    arbiter = resqued("-n", 1, "--queue", "a", *QUICK)
    workers = arbiter.wait_for_workers(1)
    then.take()
    (owner,) = [connection.hget(key, "resqued_owner") for key in connection.smembers("rq:workers")]
    workers[1].terminate()
    workers[1].wait(scaled(10))
    arbiter.wait_for_workers(1)
    then.returns()
    claimed = queue("a").enqueue(jobs.noop, job_id="claimed")
    with connection.pipeline() as pipeline:
        pipeline.lrem("rq:queue:a", 1, "claimed")
        pipeline.rpush("rq:queue:a:intermediate", "claimed")
        pipeline.hset(CLAIMS, owner, "claimed rq:queue:a")
        pipeline.execute()
    ends(connection, then.job)
    ends(connection, claimed)


# --- Two looks -------------------------------------------------------------------------------


@pytest.fixture
def board():
    board = Scoreboard.create()
    yield board
    board.close()


@pytest.fixture
def worker(board):
    """This process, as a worker of the arbiter `me`."""

    ticks = linux.birth_ticks(os.getpid())
    record = Record(Phase.IDLE, pid=os.getpid(), ticks=ticks, name="me.1.1")
    writer = RecordWriter(board, 1, record)
    writer.owner = Owner("me", linux.machine(), "me.1.1", os.getpid(), ticks)
    return writer


def test_what_is_on_its_way_is_no_stray(board, worker):
    strays = Strays(board, "me", 60.0)
    claim = Left(worker.owner, "j", "", "a")
    run = Left(worker.owner, "j", "e", "a")
    assert strays.find([claim, run], 0.0) == set(), "one look is none"
    assert strays.find([claim, run], 59.0) == set()
    worker.update(phase=Phase.TAKEN, job_id="j")
    assert strays.find([claim], 61.0) == set(), "it was on its way"
    worker.update(phase=Phase.PREPARED, execution_id="e")
    assert strays.find([run], 61.0) == set()
    assert strays.find([claim], 100.0) == set()
    assert strays.find([claim], 161.0) == {claim}
    worker.update(phase=Phase.IDLE, job_id="", execution_id="")
    assert strays.find([run], 200.0) == set()
    assert strays.find([run], 260.0) == {run}


def test_looks_with_a_gap_between_them_do_not_count(board, worker):
    strays = Strays(board, "me", 60.0)
    run = Left(worker.owner, "j", "e", "a")
    strays.find([run], 0.0)
    strays.find([], 30.0)
    assert strays.find([run], 61.0) == set()
    strays.clear()
    assert strays.find([run], 200.0) == set()
    assert strays.find([run], 259.0) == set()
    assert strays.find([run], 260.0) == {run}


def test_of_those_that_are_gone(board, worker):
    strays = Strays(board, "me", 60.0)
    gone = Left(Owner("me", linux.machine(), "me.1.0", 1, 7), "j", "e", "a")
    others = Left(Owner("them", linux.machine(), "them.1.0", 1, 7), "j", "f", "a")
    assert strays.find([gone, others], 0.0) == set()
    assert strays.find([gone, others], GONE_FOR - 0.1) == set()
    assert strays.find([gone, others], GONE_FOR) == {gone}
