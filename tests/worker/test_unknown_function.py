"""A host with older code meets jobs whose function it does not know yet (`--unknown-function`)."""

from __future__ import annotations

import pytest
from rq.registry import ScheduledJobRegistry
from rq.utils import now

from harness import jobs
from harness.oracle import assert_one_place_each

CLASSES = ["resqued.worker.rq_worker.ResquedWorker", "rq.Worker", "rq.SimpleWorker"]
UNKNOWN = ["harness.jobs.of_tomorrow", "module_of_tomorrow.job"]


@pytest.mark.parametrize("name", UNKNOWN)
def test_it_fails_as_with_rq_unless_told_otherwise(crew, queue, ends, name):
    crew.start()
    job = queue().enqueue(name)
    assert ends(job) == "failed"
    assert "Invalid attribute name" in job.latest_result().exc_string


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("name", UNKNOWN)
def test_it_waits_for_a_host_that_knows_it(crew, queue, ends, connection, cls, name):
    hand = crew.start(worker_class=cls, unknown_function="retry")
    job, waiting = queue().enqueue(name), ScheduledJobRegistry(queue=queue())
    for seconds in (5, 20, 60):
        assert ends(job) == "scheduled"
        due = (waiting.get_scheduled_time(job) - now()).total_seconds()
        assert seconds - 5 < due <= seconds
        hand.reached(hand.record.phase.IDLE)
        assert_one_place_each(connection, [job.id])
        waiting.remove(job)
        connection.hset(job.key, "status", "queued")
        queue().push_job_id(job.id)  # as RQ's scheduler does it when it is due
        ends_again = queue().enqueue(jobs.noop)
        assert ends(ends_again) == "finished"
    assert ends(job) == "failed"
    assert "no host that took it knows its function" in job.latest_result().exc_string
    assert_one_place_each(connection, [job.id])


def test_an_error_of_the_job_itself_is_none_of_it(crew, queue, ends):
    crew.start(unknown_function="retry")
    job = queue().enqueue(jobs.fail, "Invalid attribute name: x")
    assert ends(job) == "failed"
    missing = queue().enqueue("rq.utils.import_attribute", "harness.jobs.of_tomorrow")
    assert ends(missing) == "failed"
