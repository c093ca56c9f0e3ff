"""Real commands whose jobs run in children."""

from __future__ import annotations

import pytest

from harness import jobs
from harness.waiting import wait_for


@pytest.fixture
def isolated(resqued):
    """`isolated(...)`: one worker that forks for each job; more arguments as those of `resqued`."""

    def start(*arguments, **options):
        arbiter = resqued("-n", 1, "--isolation", "fork", *arguments, **options)
        arbiter.wait_for_workers(1)
        return arbiter

    return start


@pytest.fixture
def ahead(queue):
    """Enqueue what makes the job after it run in a child that was forked ahead, by a template."""
    return lambda: [queue().enqueue(jobs.nothing) for _ in range(8)]


@pytest.fixture
def ends():
    """`ends(job)`: wait until it has an outcome; which."""

    def ends(job, timeout=20):
        over = ("finished", "failed", "stopped", "scheduled")
        return wait_for(
            lambda: (found := job.get_status(refresh=True)) in over and found.value,
            timeout,
            f"job {job.id} to end",
        )

    return ends
