"""How often a worker waits for Redis while it works off jobs.

A chunk of the client's and the reply to it are one round trip; the proxy sees them.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from harness import jobs
from harness.waiting import wait_for
from resqued import hookimpl

MOST = 1
"""Round trips that a job which does nothing may cost, while there is another after it."""

LAYOUTS = pytest.mark.parametrize("queues", [("a",), ("a", "b", "c")], ids=["one queue", "three"])


@pytest.fixture
def chunks_of(crew, proxy, queue, connection):
    """`chunks_of(queues, count)`: what a worker sends from its start until it has left, with so
    many jobs in its last queue; each chunk as the names of its commands."""
    crew.url = proxy.url

    def chunks_of(queues: tuple[str, ...], count: int, **options: Any) -> Counter[str]:
        connection.flushall()
        last = queue(queues[-1])
        last.enqueue_many([last.prepare_data(jobs.nothing) for _ in range(count)])
        before = len(proxy.chunks)
        hand = crew.start(*queues, burst=True, wait=False, **options)
        assert hand.gone() == 0
        assert hand.record.done == count
        return Counter(" ".join(chunk.commands) for chunk in proxy.chunks[before:])

    return chunks_of


@LAYOUTS
def test_round_trips_of_a_job(chunks_of, queues):
    chunks_of(queues, 1)  # Redis learns the scripts
    more, fewer = chunks_of(queues, 30), chunks_of(queues, 10)
    each = {names: (more[names] - fewer[names]) / 20 for names in more}
    lines = [f"  {times:g} {names}" for names, times in each.items() if times]
    total = sum(each.values())
    print(f"{total:g} round trips a job:", *lines, sep="\n")
    assert total <= MOST
    assert fewer - more == Counter(), "what does not depend on the jobs is the same"


class AfterJob:
    @hookimpl
    def after_job(self, worker, job, outcome):
        pass


class Recycles:
    @hookimpl
    def should_recycle(self, worker):
        return None


@pytest.mark.parametrize("plugin", [AfterJob(), Recycles()], ids=lambda each: type(each).__name__)
def test_an_outcome_goes_alone_where_code_of_others_comes_after_it(chunks_of, plugin):
    chunks_of(("a",), 1, plugins=[plugin])
    more, fewer = (chunks_of(("a",), count, plugins=[plugin]) for count in (30, 10))
    assert (more["EVALSHA"] - fewer["EVALSHA"]) / 20 == 2


@LAYOUTS
def test_round_trips_of_a_job_that_finds_its_worker_idle(crew, proxy, queue, ends, queues):
    """From the push until it waits again. Reported only: it happens when there is time for it."""
    crew.url = proxy.url
    hand = crew.start(*queues)

    def waits(jobs_done: int) -> bool:
        """It has asked its queues for a push, on a connection that takes no jobs."""
        (takes,) = {chunk.connection for chunk in proxy.chunks if "EVALSHA" in chunk.commands}
        return hand.record.done == jobs_done and proxy.chunks[-1].connection != takes

    def do_one(jobs_done: int) -> None:
        assert ends(queue(queues[-1]).enqueue(jobs.nothing)) == "finished"
        wait_for(lambda: waits(jobs_done), 5, "it to wait again")

    do_one(1)
    before = len(proxy.chunks)
    do_one(2)
    chunks = proxy.chunks[before:]
    lines = [f"  {' '.join(chunk.commands)}" for chunk in chunks]
    print(f"{len(chunks)} round trips from idle to idle:", *lines, sep="\n")
    assert len(chunks) > MOST


@LAYOUTS
def test_one_connection_while_a_job_runs(crew, queue, gate, connection, queues):
    door = gate()
    queue(queues[-1]).enqueue(jobs.wait_at, str(door))
    hand = crew.start(*queues)
    door.wait_until_reached()
    own = [each for each in connection.client_list() if each["name"] == hand.record.name]
    assert len(own) == 1
