"""The steward's duty for scheduled jobs, alone."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from rq import Queue

from harness import jobs
from harness.waiting import stays_true, wait_for
from resqued import Config
from resqued.broker.schedule import SLICE
from resqued.shares import QueueShare
from resqued.steward import schedule
from resqued.steward.schedule import Schedule


@pytest.fixture
def duty(connection):
    """For the queues a and b."""
    config = Config(queues=(QueueShare("a"), QueueShare("b")))
    made = Schedule(connection, config, "host.1-x", answer=5.0)
    yield made
    made.close()


@pytest.fixture
def a(connection):
    return Queue("a", connection=connection)


def test_it_waits_until_the_earliest_is_due(duty, a):
    assert duty.step() == schedule.TURN, "nothing is scheduled"
    a.enqueue_in(timedelta(seconds=100), jobs.noop)
    assert duty.step() == schedule.TURN
    job = a.enqueue_in(timedelta(seconds=1), jobs.noop)
    wait = duty.step()
    assert wait <= schedule.TURN
    wait_for(lambda: duty.step() == schedule.TURN and job.get_status() == "queued", 5, "the job")


def test_it_hears_of_a_job_that_is_due_before_those_known(duty, a):
    duty.step()
    stays_true(lambda: duty.hear() is None, 0.3, "nothing has changed")
    a.enqueue_in(timedelta(seconds=0), jobs.noop)
    due = wait_for(duty.hear, 5, "Redis to report the change")
    assert due <= time.monotonic() + schedule.APART
    duty.step()
    assert a.count == 1
    wait_for(lambda: (duty.step(), duty.hear() is None)[1], 5, "its own change to be heard, too")


def test_it_is_registered_as_a_scheduler(duty, connection):
    duty.step()
    assert connection.hget("rq:scheduler:host.1-x", "queues") in (b"a,b", b"b,a")
    assert connection.get("rq:scheduler-lock:a") == b"host.1-x"
    duty.stop()
    assert not connection.keys("rq:scheduler*")


def test_after_some_time_the_other_duties_come_first(duty, a, monkeypatch):
    ids = [a.enqueue_in(timedelta(seconds=0), jobs.noop).id for _ in range(600)]
    monkeypatch.setattr(schedule, "BUDGET", 0.0)
    for moved in (SLICE, 2 * SLICE, 600):
        assert duty.step() == 0.0, "go on at once"
        assert a.count == moved
    assert duty.step() > 0
    assert sorted(a.job_ids) == sorted(ids)


def test_a_queue_with_many_does_not_hold_up_another(duty, a, connection, monkeypatch):
    b, moment = Queue("b", connection=connection), timedelta(seconds=0)
    for queue, count in ((a, 2 * SLICE + 50), (b, SLICE + 1)):
        for _ in range(count):
            queue.enqueue_in(moment, jobs.noop)
    monkeypatch.setattr(schedule, "BUDGET", 0.0)
    for counts in ((SLICE, 0), (SLICE, SLICE), (2 * SLICE, SLICE), (2 * SLICE, SLICE + 1)):
        assert duty.step() == 0.0
        assert (len(a), len(b)) == counts
    duty.step()
    assert len(a) == 2 * SLICE + 50


def test_jobs_that_are_gone_are_counted(duty, a, connection, log_lines):
    for job in [a.enqueue_in(timedelta(seconds=0), jobs.noop) for _ in range(3)]:
        connection.delete(job.key)
    duty.step()
    assert connection.zcard("rq:scheduled:a") == 0
    assert "queue=a: 3 scheduled jobs did not exist any more when they were due" in "".join(
        log_lines
    )
    for job in [a.enqueue_in(timedelta(seconds=0), jobs.noop) for _ in range(2)]:
        connection.delete(job.key)
    duty.step()
    assert "queue=a: 2 scheduled jobs" not in "".join(log_lines)
    duty._said_at = 0.0  # a minute later, when none is gone
    duty.step()
    assert "queue=a: 2 scheduled jobs" in "".join(log_lines)
