"""Heartbeats of all workers, from one place: they keep alive what lives and revive nothing."""

from __future__ import annotations

import pytest

from harness import jobs
from harness.waiting import stays_true, wait_for

QUICK = ("--dead-after", 2)  # a heartbeat every half second
BEAT = "last_heartbeat"


@pytest.fixture
def arbiter(resqued):
    arbiter = resqued("-n", 2, *QUICK)
    arbiter.wait_for_workers(2)
    arbiter.wait_for_steward()
    return arbiter


def keys_of(connection):
    return sorted(connection.smembers("rq:workers"))


def grows(connection, key, field=BEAT):
    before = connection.hget(key, field)
    wait_for(lambda: connection.hget(key, field) > before, 5, f"{field} of {key} to grow")


def test_idle_workers(arbiter, connection):
    for key in keys_of(connection):
        connection.expire(key, 20)
        grows(connection, key)
        assert connection.ttl(key) > 400


def test_busy_workers(arbiter, connection, queue, gate):
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door), job_timeout=5)
    door.wait_until_reached()
    (execution,) = job.get_executions()
    for key in (execution.key, job.key, f"rq:worker:{execution.worker_name}"):
        grows(connection, key)
    member = execution.composite_key
    connection.zadd("rq:wip:default", {member: 1})
    wait_for(lambda: connection.zscore("rq:wip:default", member) > 1, 5, "its place in wip")
    assert connection.ttl(execution.key) > 200
    door.open()
    wait_for(lambda: job.get_status() == "finished", 5, "the job to end")
    assert not connection.keys("rq:execution*")
    assert connection.zcard("rq:wip:default") == 0


def test_a_job_without_a_timeout_stays_started(arbiter, connection, queue, gate):
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door), job_timeout=-1)
    door.wait_until_reached()
    (execution,) = job.get_executions()
    connection.expire(execution.key, 60)
    wait_for(lambda: connection.ttl(execution.key) > 80000, 5, "another day")


def test_one_round_trip_for_all(resqued, connection):
    arbiter = resqued("-n", 6, *QUICK)
    arbiter.wait_for_workers(6)
    arbiter.wait_for_steward()
    connection.config_resetstat()
    wait_for(lambda: writes(connection) >= 6 * 4, 10, "four rounds")
    stats = connection.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] < writes(connection) / 3, "one script for many"
    reads = connection.info("stats")["total_reads_processed"]
    assert reads < stats["cmdstat_evalsha"]["calls"] * 2 + reads_of_ours(stats)


def writes(connection):
    """One for each worker and round, and one for the arbiter."""
    return connection.info("commandstats").get("cmdstat_hset", {"calls": 0})["calls"]


def test_one_worker_whose_keys_are_wrong_keeps_none_of_the_others_from_its_heartbeats(
    resqued, connection
):
    arbiter = resqued("-n", 4, *QUICK)
    arbiter.expect_errors = "was not a hash|is a string and no set"
    arbiter.wait_for_workers(4)
    arbiter.wait_for_steward()
    first, *others = keys_of(connection)
    connection.delete(first)
    connection.set(first, "no hash")
    connection.delete("rq:workers:default")
    connection.set("rq:workers:default", "no set")
    wait_for(lambda: connection.type(first) == b"hash", 5, "it to be registered again")
    wait_for(lambda: connection.type("rq:workers:default") == b"set", 5, "all to be listed again")
    wait_for(lambda: connection.scard("rq:workers:default") == 4, 5, "all to be listed again")
    for key in (first, *others):
        grows(connection, key)


def reads_of_ours(stats):
    """One a command of this test and of the steward that is no heartbeat."""
    others = ("info", "ping", "exists", "hgetall", "time")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in others)


def test_a_flushed_database_gets_its_workers_back(arbiter, connection, queue):
    before = keys_of(connection)
    grows(connection, before[0])
    connection.flushall()
    wait_for(lambda: keys_of(connection) == before, 5, "the workers to be registered again")
    wait_for(lambda: connection.hget(before[0], "pid"), 5, "what they said at their birth")
    assert connection.scard("rq:workers:default") == 2
    assert 0 < connection.ttl(before[0]) <= 480
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.get_status() == "finished", 5, "a job to be done")


def test_a_worker_that_left_is_not_brought_back(arbiter, connection):
    before = keys_of(connection)
    arbiter.signal("TTOU")
    arbiter.wait_for_workers(1)
    left = (set(before) - set(keys_of(connection))).pop()
    stays_true(lambda: left not in connection.smembers("rq:workers"), 1.5, "it stays away")
    assert connection.hexists(left, "death")
    connection.delete(left)
    stays_true(lambda: not connection.exists(left), 1.5, "it stays away, also without its key")


def test_a_deleted_job_is_not_brought_back(arbiter, connection, queue, gate):
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    door.wait_until_reached()
    job.delete()
    stays_true(lambda: not connection.exists(job.key), 1.5, "its hash stays away")
    door.open()
    wait_for(lambda: connection.hlen("rq:resqued:running") == 0, 15, "the note of it to go")


def test_one_connection_for_a_busy_worker_and_three_for_the_steward(
    resqued, connection, queue, gate
):
    arbiter = resqued("-n", 4, *QUICK)
    arbiter.wait_for_workers(4)
    steward = arbiter.wait_for_steward()
    doors = [gate() for _ in range(4)]
    for door in doors:
        queue().enqueue(jobs.wait_at, str(door))
    for door in doors:
        door.wait_until_reached()

    def names():
        clients = [client["name"] for client in connection.client_list()]
        return sorted(name.rpartition(".")[2] for name in clients if name)

    assert len(steward.children()) == 0
    # the steward's: for what it asks, for commands, and for what is scheduled
    wait_for(lambda: len(names()) == 7 and names().count("steward") == 3, 5, "seven connections")
