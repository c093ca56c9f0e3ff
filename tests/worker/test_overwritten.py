"""The key of a job is overwritten by somebody while the job runs."""

from __future__ import annotations

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
