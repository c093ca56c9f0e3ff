"""Jobs that run in children of their worker."""

from __future__ import annotations

from harness import jobs
from harness.waiting import wait_for


def test_each_job_has_a_process_of_its_own(resqued, queue):
    arbiter = resqued("-n", 1, "--isolation", "fork")
    worker = arbiter.wait_for_workers(1)[1].pid
    many = [queue().enqueue(jobs.noop) for _ in range(30)]
    for job in many:
        wait_for(lambda job=job: job.get_status(refresh=True) == "finished", 10)
    pids = {job.return_value(refresh=True) for job in many}
    assert len(pids) == 30
    assert worker not in pids
    assert arbiter.wait_for_workers(1)[1].pid == worker
