"""What the steward has measured is on the scoreboard, for anybody to read."""

from __future__ import annotations

from datetime import timedelta

from harness import jobs
from harness.board import facts_of
from harness.waiting import wait_for


def facts(arbiter, enough, what):
    """The facts as soon as they are as wanted."""

    def read():
        found = facts_of(arbiter.pid)
        return found if found is not None and enough(found) else None

    return wait_for(read, 15, what)


def test_queues_are_measured_served_here_or_not(resqued, connection, queue, gate):
    arbiter = resqued("-n", 1, "--queue", "a")
    arbiter.wait_for_workers(1)
    there = gate()
    queue("a").enqueue(jobs.wait_at, str(there))
    there.wait_until_reached()
    queue("a").enqueue(jobs.nothing)
    for _ in range(3):
        queue("misspelt").enqueue(jobs.nothing)
    queue("misspelt").enqueue_in(timedelta(hours=1), jobs.nothing)
    found = facts(
        arbiter,
        lambda found: (queue := found.queue("misspelt")) and queue.scheduled and queue.waiting,
        "the queue that nobody serves",
    )
    assert found.answers and not found.error and not found.suspended
    assert found.round_trip is not None and 0 < found.round_trip < 5
    mine, other = found.queue("a"), found.queue("misspelt")
    assert (mine.waiting, mine.started, mine.served) == (1, 1, 1)
    assert mine.oldest is not None and 0 <= mine.oldest < 60
    assert (other.waiting, other.started, other.served, other.failed) == (3, 0, 0, 0)
    assert other.scheduler is False and found.scheduler is False
    there.open()


def test_a_suspension_is_seen(resqued, connection):
    arbiter = resqued("-n", 1, "--queue", "a")
    arbiter.wait_for_workers(1)
    facts(arbiter, lambda found: found.answers and not found.suspended, "no suspension")
    connection.set("rq:suspended", 1)
    facts(arbiter, lambda found: found.suspended, "the suspension")


def test_an_outage_is_seen_with_its_cause_and_its_begin(resqued, valkey):
    arbiter = resqued("-n", 1, "--queue", "a", expect_errors="redis")
    arbiter.wait_for_workers(1)
    before = facts(arbiter, lambda found: found.answers, "an answer")
    valkey.kill()
    found = facts(arbiter, lambda found: not found.answers, "the outage")
    assert "Connection" in found.error and found.since > before.since
    assert found.queue("a") is not None
    valkey.start()
    again = facts(arbiter, lambda found: found.answers, "the end of the outage")
    assert not again.error and again.since > found.since


def test_an_outage_before_the_first_answer_is_seen(resqued, valkey):
    valkey.kill()
    arbiter = resqued("-n", 1, "--queue", "a", expect_errors="redis")
    arbiter.wait_for("redis .* (Connection|Error)", timeout=20)
    found = facts(arbiter, lambda found: not found.answers, "the outage")
    assert "Connection" in found.error
    valkey.start()
    facts(arbiter, lambda found: found.answers, "an answer")
