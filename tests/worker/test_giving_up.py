"""Recoveries that the job's own data keep from their end, and outcomes that take their time."""

from __future__ import annotations

import time

import pytest

from harness import jobs
from harness.oracle import assert_one_place_each, places
from harness.waiting import stays_true, wait_for
from resqued.broker.owner import CLAIMS, RUNNING
from resqued.steward.heartbeats import Heartbeats


@pytest.fixture
def dead(crew, queue, gate):
    """`dead()`: a worker that was killed while it ran a job, and that job."""

    def dead(**options):
        door = gate()
        job = queue("a").enqueue(jobs.wait_at, str(door), **options)
        hand = crew.start("a")
        door.wait_until_reached()
        hand.kill()
        return hand, job

    return dead


def spoil(connection, job, what):
    match what:
        case "date":
            connection.hset(job.key, "created_at", "yesterday")
        case "type":
            connection.delete(job.key)
            connection.set(job.key, "x")
        case "results":
            connection.set(f"rq:results:{job.id}", "x")
        case "counters":
            connection.hset(job.key, mapping={"deaths": "x", "interruptions": "x"})


@pytest.mark.parametrize("interrupted", [False, True], ids=["died", "stopped"])
@pytest.mark.parametrize("what", ["date", "type", "results", "counters"])
def test_what_cannot_be_recovered_is_failed_barely(dead, connection, queue, what, interrupted):
    hand, job = dead()
    after = queue("b").enqueue(jobs.noop, depends_on=job)
    spoil(connection, job, what)
    (verdict,) = hand.recovered(interrupted=interrupted)
    found = places(connection, [job.id])[job.id]
    if interrupted and what in ("results", "counters"):
        assert (verdict, found) == ("requeued", ["queue:a"])
    else:
        assert (verdict, found) == ("failed", ["failed:a"])
    assert not connection.exists(CLAIMS, RUNNING, "rq:wip:a")
    assert not connection.smembers("rq:workers")
    assert_one_place_each(connection, [after.id])


def test_it_waits_for_a_server_that_takes_no_writes(dead, connection, crew):
    """That is no fault of the job."""
    hand, job = dead()
    connection.config_set("maxmemory", 1)
    finish = hand.begin_recovery(interrupted=True)
    stays_true(lambda: places(connection, [job.id])[job.id] == ["wip:a"], 4, "it is left alone")
    connection.config_set("maxmemory", 0)
    assert finish() == ["requeued"]


def test_heartbeats_do_not_keep_an_outcome_from_being_written(
    crew, connection, proxy, queue, gate, ends
):
    """It takes longer to prepare than from one heartbeat to the next."""
    crew.url = proxy.url
    door = gate()
    job = queue("a").enqueue(jobs.wait_at, str(door))
    for _ in range(30):
        queue("b").enqueue(jobs.nothing, depends_on=job)
    hand = crew.start("a", wait=False)
    door.wait_until_reached()
    beats = Heartbeats(connection, crew.board, crew.config(), "host.test", hand.pid)
    proxy.delay(0.15)
    door.open()
    rounds = 0
    until = time.monotonic() + 60
    while job.get_status() != "finished" and time.monotonic() < until:
        beats.beat()
        rounds += 1
        time.sleep(0.05)
    proxy.delay(0)
    assert ends(job) == "finished"
    assert rounds > 10, "there was a heartbeat between any two round trips"
    wait_for(lambda: len(queue("b").job_ids) == 30, 20, "the dependents to be enqueued")
