"""A key of a job is overwritten by somebody while the job runs."""

from __future__ import annotations

import pytest

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
    assert f"dependents of job={job.id} not enqueued" in crew.log.read_text()
