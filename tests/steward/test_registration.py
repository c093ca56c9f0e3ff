"""What RQ lists of workers: made whole within a heartbeat, whatever has become of it."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError
from rq import Worker

from harness import jobs
from harness.waiting import wait_for

QUICK = ("--dead-after", 4)  # a heartbeat a second


@pytest.fixture
def arbiter(resqued):
    queues = ("--queue", "a", "--queue", "b=1")
    errors = "not a hash|no set|WRONGTYPE"
    arbiter = resqued("-n", 2, *queues, *QUICK, expect_errors=errors)
    arbiter.wait_for_workers(2)
    arbiter.wait_for_steward()
    return arbiter


def whole(connection, count=2):
    """RQ lists so many, each with all that it says at its birth, and for all of its queues."""

    def is_so():
        try:
            return is_whole()
        except ResponseError:  # something is overwritten yet
            return False

    def is_whole():
        workers = Worker.all(connection=connection)
        return (
            len(workers) == count
            and all(worker.birth_date and worker.pid for worker in workers)
            and all(worker.get_state() in ("idle", "busy") for worker in workers)
            and {tuple(worker.queue_names()) for worker in workers} == {("a", "b"), ("a",)}
            and connection.scard("rq:workers:a") == count
            and connection.scard("rq:workers:b") == 1
        )

    wait_for(is_so, 12, "RQ to list all of them")


def test_a_flush_right_after_the_start(resqued, connection):
    """Before the steward has read what they say of themselves."""
    arbiter = resqued("-n", 2, "--queue", "a", "--queue", "b=1")
    arbiter.wait_for_workers(2)
    connection.flushall()
    whole(connection)


@pytest.mark.parametrize("key", ["rq:workers", "rq:workers:a", "rq:workers:b"])
def test_a_list_that_was_evicted(arbiter, connection, key):
    whole(connection)
    connection.delete(key)
    whole(connection)


@pytest.mark.parametrize("key", ["rq:workers", "rq:workers:a"])
def test_a_list_that_was_overwritten(arbiter, connection, key):
    whole(connection)
    connection.delete(key)
    connection.set(key, "something else")
    whole(connection)
    assert connection.get(f"{key}:set-aside") == b"something else"


@pytest.mark.parametrize("key", ["rq:workers", "rq:workers:a"])
def test_a_list_that_is_overwritten_holds_up_no_start(resqued, connection, key):
    connection.set(key, "something else")
    arbiter = resqued("-n", 2, "--queue", "a", "--queue", "b=1", expect_errors="no set|WRONGTYPE")
    arbiter.wait_for_workers(2)
    whole(connection)


def test_a_key_of_which_a_part_is_there(arbiter, connection, queue, gate):
    """As a job or a change of state leaves it behind a flush."""
    door = gate()
    queue("a").enqueue(jobs.wait_at, str(door))
    door.wait_until_reached()
    whole(connection)
    keys = connection.smembers("rq:workers")
    connection.delete(*keys)
    for key in keys:
        connection.hset(key, mapping={"state": "busy", "last_heartbeat": "x"})
        connection.srem("rq:workers", key)
    wait_for(lambda: connection.smembers("rq:workers") == keys, 12, "them in the list")
    whole(connection)


def test_a_key_that_was_overwritten(arbiter, connection, queue):
    whole(connection)
    key = sorted(connection.smembers("rq:workers"))[0]
    connection.delete(key)
    connection.set(key, "x")
    job = queue("a").enqueue(jobs.noop)
    wait_for(lambda: job.get_status() == "finished", 12, "a job to be done")
    whole(connection)
    arbiter.wait_for(r"key=rq:worker:\S+ was not a hash")


def test_a_worker_that_was_taken_for_dead(arbiter, connection):
    """By another machine, which has deregistered it."""
    whole(connection)
    for worker in Worker.all(connection=connection):
        worker.register_death()
    arbiter.wait_for("was taken for dead; registered again", times=2)
    whole(connection)
    assert not [key for key in connection.smembers("rq:workers") if connection.hget(key, "death")]
