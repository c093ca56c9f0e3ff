"""What tests of faults under load look at, besides their fixtures."""

from __future__ import annotations

from harness.oracle import assert_one_place_each, places
from harness.waiting import wait_for


def kinds(connection, ids):
    """`{"queue", "finished"}`: where the jobs are, each in one place."""
    where = assert_one_place_each(connection, ids)
    return {place.partition(":")[0] for place in where.values()}


def are_finished(connection, ids):
    """Whether each is, and is nowhere else."""
    found = places(connection, ids).values()
    return all(len(each) == 1 and each[0].startswith("finished:") for each in found)


def obeys(arbiter, count):
    """It acts on signals while Redis does what it does; `count` workers are wished after it."""
    arbiter.signal("TTIN")
    wait_for(lambda: len(arbiter.workers()) == count + 1, what="one worker more")
    arbiter.signal("TTOU")
    wait_for(lambda: arbiter.status()["wished"] == count, what="one worker fewer")


def under_way(arbiter):
    wait_for(lambda: len(arbiter.ledger.ended()) > 5, what="some jobs to be done")


def pids(arbiter):
    return {each.pid for each in arbiter.workers().values()}
