"""A job that is taken in RQ's way stands as a claim in Redis, whatever the worker heard of it.

It is begun before any other: one script a job, which knows nothing of claims, waits meanwhile.
"""

from __future__ import annotations

import pytest

from harness import jobs
from harness.oracle import assert_one_place_each
from resqued.broker.hand import GIVE_BACK


@pytest.fixture
def odd(queue, connection):
    """`odd(id)`: a job that the script does not start: its hash has too many fields."""

    def odd(job_id):
        job = queue().enqueue(jobs.noop, job_id=job_id)
        connection.hset(job.key, mapping={f"field {number}": "" for number in range(1000)})
        return job

    return odd


@pytest.mark.parametrize(
    "lost",
    [b"rq:resqued:claims", b"HGETALL\r\n$10\r\nrq:job:odd\r\n"],
    ids=["its taking", "its reading"],
)
@pytest.mark.parametrize("with_the_request", [False, True], ids=["reply", "request"])
def test_what_is_claimed_is_begun_first(
    crew, proxy, queue, odd, ends, ledger, lost, with_the_request
):
    crew.url = proxy.url
    first = odd("first")
    assert crew.start(burst=True, wait=False).gone() == 0  # Redis knows the scripts from here on
    made = [odd("odd"), *(queue().enqueue(jobs.noop) for _ in range(3))]
    (proxy.cut_before if with_the_request else proxy.swallow_reply)(lost)
    hand = crew.start(burst=True, wait=False)
    assert hand.gone() == 0
    assert proxy.swallowed.is_set()
    assert {ends(job) for job in (first, *made)} == {"finished"}
    assert ledger.started() == [job.id for job in (first, *made)]


@pytest.mark.parametrize("fault", ["swallow_reply", "cut_before"])
def test_what_is_given_back_in_an_outage_is_not_taken_for_the_next(
    crew, proxy, queue, connection, ends, ledger, fault
):
    """A job that a script has started and the worker cannot read."""
    crew.url = proxy.url
    sha = connection.script_load(GIVE_BACK)
    unread, after = queue().enqueue(jobs.noop), queue().enqueue(jobs.noop)
    connection.hset(unread.key, "created_at", "never")
    getattr(proxy, fault)(sha.encode())
    assert crew.start(burst=True, wait=False).gone() == 0
    assert proxy.swallowed.is_set()
    assert (status(connection, unread), ends(after)) == ("failed", "finished")
    assert ledger.started() == [after.id]
    assert assert_one_place_each(connection, [unread.id, after.id]) == {
        unread.id: "failed:default",
        after.id: "finished:default",
    }


def status(connection, job):
    return connection.hget(job.key, "status").decode()
