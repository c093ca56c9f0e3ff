"""A key that a job is to come into was overwritten: it comes there all the same."""

from __future__ import annotations

import pytest
from rq import Retry
from rq.job import Dependency

from harness import jobs
from harness.waiting import wait_for
from resqued.broker.claims import Claims
from resqued.scoreboard import Phase


def fail():
    raise ValueError("always")


@pytest.mark.parametrize(
    ("body", "options", "key"),
    [
        (jobs.noop, {}, "rq:finished:default"),
        (fail, {}, "rq:failed:default"),
        (fail, {"retry": Retry(1, interval=100)}, "rq:scheduled:default"),
        (jobs.noop, {}, "rq:results:j"),
        (fail, {}, "rq:results:j"),
    ],
)
def test_the_place_of_an_outcome(crew, queue, connection, body, options, key):
    connection.set(key, "something else")
    job = queue().enqueue(body, job_id="j", **options)
    hand = crew.start()
    wait_for(lambda: hand.record.done == 1, 10, "it to be done")
    if "results" in key:
        assert job.latest_result() is not None
        assert (connection.ttl(key) > 0) == (body is jobs.noop), "as RQ has it"
    else:
        assert connection.zscore(key, "j") is not None
    assert connection.get(f"{key}:set-aside") == b"something else"
    assert crew.log.read_text().count("another program has overwritten it") == 1


def test_a_job_that_cannot_be_read(crew, queue, connection):
    job = queue().enqueue(jobs.noop, job_id="j")
    connection.hset(job.key, "created_at", "yesterday")
    connection.set("rq:failed:default", "something else")
    crew.start()
    wait_for(lambda: connection.type("rq:failed:default") == b"zset", 10, "it to be failed")
    assert connection.zscore("rq:failed:default", "j") is not None


@pytest.mark.parametrize("fails", [False, True])
def test_dependents(crew, queue, connection, fails):
    connection.set("rq:ready:default", "something else")
    parent = queue().enqueue(fail if fails else jobs.noop)
    after = queue().enqueue(jobs.noop, depends_on=Dependency([parent], allow_failure=fails))
    crew.start()
    wait_for(lambda: after.get_status() == "finished", 10, "the dependent")


def test_the_queue_that_a_job_goes_back_to(crew, queue, connection, gate):
    door = gate()
    queue().enqueue(jobs.wait_at, str(door), job_id="j")
    hand = crew.start()
    door.wait_until_reached()
    connection.set("rq:queue:default", "something else")
    hand.stop_now()
    hand.gone()
    if hand.record.phase is not Phase.LEFT:
        hand.recovered(interrupted=True)
    assert connection.lrange("rq:queue:default", 0, -1) == [b"j"]


@pytest.mark.parametrize("died", [False, True])
def test_the_queue_that_a_taken_job_goes_back_to(queue, connection, died):
    queue().enqueue(jobs.noop, job_id="j")
    claims = Claims(connection, "owner")
    assert claims.take([queue()]) is not None
    connection.set("rq:queue:default", "something else")
    if died:
        claims.put_back_after_death(3)
    else:
        claims.put_back()
    assert connection.lrange("rq:queue:default", 0, -1) == [b"j"]
