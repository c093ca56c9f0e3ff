"""RQ's lists of executions are evicted, deleted or overwritten: no job is lost by that."""

from __future__ import annotations

import pytest

from harness import jobs
from harness.waiting import stays_true, wait_for

QUICK = ("--dead-after", 4)  # a heartbeat a second
WIP = "rq:wip:a"


@pytest.fixture(params=[(), ("-w", "rq.Worker")], ids=["worker", "horse"])
def start(request, resqued):
    """`start(...)`: one worker of queue `a`."""

    def start(*arguments):
        arbiter = resqued("-n", 1, "--queue", "a", *request.param, *arguments, expect_errors=".")
        arbiter.wait_for_workers(1)
        arbiter.wait_for_steward()
        return arbiter

    return start


@pytest.fixture
def running(start, queue, gate, connection):
    """`running(...)`: an arbiter, a job that it runs, and its door."""

    def running(*arguments):
        arbiter, door = start(*arguments), gate()
        job = queue("a").enqueue(jobs.wait_at, str(door))
        door.wait_until_reached()
        wait_for(lambda: job.get_status() == "started", 10, "the job to be started")
        return arbiter, job, door

    return running


def ends(connection, job, place):
    """It does, as its hash and the registry of those that have ended so tell."""
    wait_for(lambda: job.get_status() == place, 20, f"it to be {place}")
    assert connection.zscore(f"rq:{place}:a", job.id) is not None


def executions_of(connection):
    (worker,) = connection.smembers("rq:workers")
    return worker.decode() + ":executions"


def overwritten(connection, job):
    """Each of the lists that name an execution, by key."""
    return [WIP, f"rq:executions:{job}", executions_of(connection)]


@pytest.mark.parametrize("which", range(3))
def test_overwritten_before_a_job_begins(start, queue, connection, which):
    arbiter = start(*QUICK)
    key = overwritten(connection, "j")[which]
    connection.set(key, "something else")
    job = queue("a").enqueue(jobs.noop, job_id="j")
    ends(connection, job, "finished")
    arbiter.wait_for(f"key={key} is a string .* kept as {key}:set-aside")
    assert connection.get(f"{key}:set-aside") == b"something else"
    assert connection.hlen("rq:resqued:running") == 0


@pytest.mark.parametrize("which", range(3))
def test_overwritten_while_it_runs(running, connection, which):
    _, job, door = running()
    key = overwritten(connection, job.id)[which]
    connection.delete(key)
    connection.set(key, "something else")
    door.open()
    ends(connection, job, "finished")
    wait_for(lambda: connection.hlen("rq:resqued:running") == 0, 10, "nothing to be left of it")


@pytest.mark.parametrize("which", range(3))
def test_overwritten_while_it_runs_and_its_worker_is_killed(running, connection, which):
    arbiter, job, _ = running()
    key = overwritten(connection, job.id)[which]
    connection.delete(key)
    connection.set(key, "something else")
    arbiter.signal("KILL", pid=arbiter.workers()[1].pid)
    ends(connection, job, "failed")


def test_deleted_while_it_runs(running, connection):
    _, job, door = running()
    connection.delete(WIP)
    door.open()
    ends(connection, job, "finished")


def test_deleted_while_it_runs_and_its_worker_is_killed(running, connection):
    arbiter, job, _ = running()
    connection.delete(WIP)
    arbiter.signal("KILL", pid=arbiter.workers()[1].pid)
    ends(connection, job, "failed")


@pytest.mark.parametrize("junk", [False, True], ids=["deleted", "overwritten"])
def test_named_again_at_the_next_heartbeat(running, connection, junk):
    _, job, door = running(*QUICK)
    (execution,) = job.get_executions()
    connection.delete(WIP, f"rq:executions:{job.id}")
    if junk:
        connection.set(WIP, "something else")
    key = execution.composite_key
    wait_for(lambda: connection.type(WIP) == b"zset", 10, "the list")
    assert connection.zscore(WIP, key) is not None
    assert [each.id for each in job.get_executions()] == [execution.id]
    stays_true(lambda: connection.hexists("rq:resqued:running", key), 2, "still in flight")
    door.open()
    ends(connection, job, "finished")
    assert connection.zcard(WIP) == 0


def test_a_job_that_was_canceled_is_not_named_again(running, connection):
    _, job, door = running(*QUICK)
    job.cancel()
    stays_true(lambda: connection.zcard(WIP) == 0, 3, "it stays canceled")
    door.open()
