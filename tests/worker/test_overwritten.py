"""A key of a job is overwritten by somebody while the job runs."""

from __future__ import annotations

import pytest
from rq.job import Dependency

from harness import jobs
from harness.waiting import wait_for


def test_its_worker_goes_on(crew, queue, gate, ends, connection):
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    hand = crew.start()
    door.wait_until_reached()
    connection.delete(job.key)
    connection.set(job.key, "something else")
    door.open()
    assert ends(queue().enqueue(jobs.noop), 30) == "finished"
    assert connection.get(job.key) == b"something else"
    wait_for(lambda: hand.record.done == 2, 10, "both on the record")


def fail_at(gate):
    jobs.wait_at(gate)
    raise ValueError(gate)


@pytest.mark.parametrize("body", [jobs.wait_at, fail_at], ids=["success", "failure"])
def test_its_worker_goes_on_without_its_dependents(crew, queue, gate, ends, connection, body):
    door = gate()
    job = queue().enqueue(body, str(door))
    hand = crew.start()
    door.wait_until_reached()
    connection.set(job.dependents_key, "something else")
    door.open()
    assert ends(queue().enqueue(jobs.noop), 30) == "finished"
    wait_for(lambda: hand.record.done == 2, 10, "both on the record")
    assert job.get_status() == ("failed" if body is fail_at else "finished")
    assert connection.get(f"{job.dependents_key}:set-aside") == b"something else"
    assert f"key={job.dependents_key} is a string and no set" in crew.log.read_text()


@pytest.mark.parametrize("body", [jobs.wait_at, fail_at], ids=["success", "failure"])
def test_without_the_dependent_whose_own_list_is_lost(crew, queue, gate, ends, connection, body):
    door = gate()
    job = queue().enqueue(body, str(door))
    met = Dependency([job], allow_failure=True)
    spoilt, whole = (queue("z").enqueue(jobs.noop, depends_on=met) for _ in range(2))
    crew.start()
    door.wait_until_reached()
    connection.set(spoilt.dependencies_key, "something else")
    door.open()
    assert ends(job, 30) == ("failed" if body is fail_at else "finished")
    wait_for(lambda: queue("z").job_ids == [whole.id], 10, "the other one to be enqueued")
    assert spoilt.get_status() == "deferred"
    assert f"job={spoilt.id} stays deferred" in crew.log.read_text()
