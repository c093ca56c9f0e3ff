"""Jobs that wait for others: enqueued once, whoever of the others ends when."""

from __future__ import annotations

import time

import pytest
from rq import Queue
from rq.job import Dependency

from harness import jobs
from harness.oracle import assert_one_place_each
from harness.waiting import wait_for
from resqued.broker.dependents import make_ready


def ready(queue: Queue, job, connection) -> dict[str, list[str]]:
    """As a worker does it after the end of `job`."""
    with connection.pipeline() as pipeline:
        pipeline.watch(job.dependents_key)
        found = make_ready(queue, job, pipeline)
        pipeline.execute()
    return found


def at(moment: float, *, fails: bool) -> None:
    time.sleep(max(0.0, moment - time.time()))
    if fails:
        raise ValueError


@pytest.mark.parametrize("both", [False, True], ids=["one fails", "both fail"])
def test_two_parents_that_end_at_the_same_moment(crew, connection, queue, both):
    """One of them fails and one finishes, or both fail: each may find the dependent ready."""
    for _ in range(3):
        crew.start("a")
    dependents = []
    for number in range(12):
        moment = time.time() + 0.2
        parents = [
            queue("a").enqueue(at, moment + (number % 5 - 2) / 1000, fails=True),
            queue("a").enqueue(at, moment, fails=both),
        ]
        depends_on = Dependency(parents, allow_failure=True)
        dependents.append(queue("z").enqueue(jobs.nothing, depends_on=depends_on).id)
        wait_for(
            lambda parents=parents: {p.get_status() for p in parents} <= {"failed", "finished"},
            10,
            "the parents to end",
        )
    wait_for(lambda: len(queue("z").job_ids) >= len(dependents), 10, "the dependents")
    assert sorted(queue("z").job_ids) == sorted(dependents)
    assert_one_place_each(connection, dependents)


def test_one_that_another_parent_has_released_is_left_alone(connection, queue):
    one, two = (queue("a").enqueue(jobs.noop) for _ in range(2))
    after = queue("z").enqueue(jobs.noop, depends_on=[one, two])
    for job in (one, two):
        job.set_status("finished")
    assert ready(queue("a"), one, connection) == {"z": [after.id]}
    queue("z").ready_job_registry.cleanup()
    assert queue("z").job_ids == [after.id]
    assert ready(queue("a"), two, connection) == {}
    assert not connection.exists(one.dependents_key, two.dependents_key)
    assert assert_one_place_each(connection, [after.id]) == {after.id: "queue:z"}


@pytest.mark.parametrize(
    ("status", "allow", "expected"),
    [
        ("finished", False, True),
        ("failed", False, False),
        ("failed", True, True),
        ("stopped", True, False),
        ("canceled", True, False),
        ("started", True, True),  # the outcome is in the transaction that this is a part of
    ],
)
@pytest.mark.parametrize("other", ["none", "finished", "failed", "started", "gone"])
def test_the_same_as_rq_says(connection, queue, status, allow, expected, other):
    parent = queue("a").enqueue(jobs.noop)
    parents = [parent]
    if other != "none":
        parents.append(queue("a").enqueue(jobs.noop))
    depends_on = Dependency(parents, allow_failure=allow)
    after = queue("z").enqueue(jobs.noop, depends_on=depends_on)
    if other == "gone":
        connection.delete(parents[1].key)
    elif other != "none":
        parents[1].set_status(other)
    parent.set_status(status)
    by_rq = after.dependencies_are_met(parent_job=parent)
    assert bool(ready(queue("a"), parent, connection)) == by_rq
    if other in ("none", "finished", "gone"):
        assert by_rq == expected


def test_few_round_trips_for_many(crew, connection, proxy, queue, ends):
    job = queue("a").enqueue(jobs.nothing)
    for _ in range(150):
        queue("z").enqueue(jobs.nothing, depends_on=job)
    crew.url = proxy.url
    crew.start("a", wait=False)
    assert ends(job) == "finished"
    names = [chunk.commands for chunk in proxy.chunks]
    ending = next(place for place, words in enumerate(names) if "XADD" in words)
    assert ending < 40
    wait_for(lambda: len(queue("z").job_ids) == 150, 20, "all to be enqueued")


def test_one_that_cannot_be_read_keeps_nobody_up(crew, connection, queue, ends):
    job = queue("a").enqueue(jobs.nothing)
    odd, other, good = (queue("a").enqueue(jobs.nothing, depends_on=job) for _ in range(3))
    connection.hset(odd.key, "created_at", "yesterday")
    connection.delete(other.key)
    connection.set(other.key, "x")
    crew.start("a")
    assert ends(job) == "finished"
    assert ends(good) == "finished"
    assert crew.log.read_text().count("stays deferred, it is unreadable") == 2
    assert odd.id in [raw.decode() for raw in connection.zrange("rq:deferred:a", 0, -1)]
