"""A load of short jobs, workers for it, and the proof that each has run once."""

from __future__ import annotations

import pytest

from faults.load import are_finished
from harness import jobs
from harness.waiting import wait_for


@pytest.fixture
def load(queue):
    """`load(40)`: ids of so many short jobs, in two queues."""
    return lambda count: [
        queue(("high", "low")[n % 2]).enqueue(jobs.sleep, 0.02).id for n in range(count)
    ]


@pytest.fixture
def held(queue, gate):
    """`held()`: a job that has begun and ends when its gate is opened; both of them."""

    def held():
        there = gate()
        job = queue("high").enqueue(jobs.wait_at, str(there))
        there.wait_until_reached()
        return job, there

    return held


@pytest.fixture
def start(proxy, resqued):
    """`start(3)`: so many workers on both queues, ready. The proxy outlives them."""

    def start(count, *arguments, wait=True, **options):
        words = ("-n", count, "--queue", "high", "--queue", "low", *arguments)
        arbiter = resqued(*words, **options)
        if wait:
            arbiter.wait_for_workers(count)
        return arbiter

    return start


@pytest.fixture
def once(connection):
    """`once(arbiter, ids)`: every job is finished, and has run exactly once."""

    def once(arbiter, ids, timeout=30):
        wait_for(lambda: are_finished(connection, ids), timeout, "all jobs to be finished")
        assert sorted(arbiter.ledger.started()) == sorted(ids)
        assert sorted(arbiter.ledger.ended()) == sorted(ids)

    return once
