"""Release 0.1 and this one on one server, as while a fleet is upgraded: what either leaves, killed
with its jobs, the other finds, once.

0.1 knows two hashes, claims and running; of hands it knows nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections import Counter

import psutil
import pytest

import resqued as package
from benchmarks import older
from harness import jobs, processes
from harness.command import COMMAND
from harness.oracle import assert_one_place_each
from harness.waiting import wait_for

ARBITERS, CLAIMS, RUNNING, HANDS = (
    f"rq:resqued:{name}" for name in ("arbiters", "claims", "running", "hands")
)

pytestmark = pytest.mark.timeout(600)  # 0.1 is installed once, into an environment of its own


@pytest.fixture(scope="session")
def commands():
    """The two releases, by name."""
    return {"0.1": str(older.command()), "this": COMMAND}


def destroy(arbiter):
    """SIGKILL to all of it at once, as when the power fails."""
    everybody = [psutil.Process(arbiter.pid), *processes.descendants(arbiter.pid)]
    for signum in (signal.SIGSTOP, signal.SIGKILL):
        for process in everybody:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signum)
    arbiter.exit()


@pytest.fixture
def start(resqued, commands):
    """`start("0.1")`, `start("this")`: two workers; both write into one ledger."""
    started = []

    def start(release):
        env = {"RESQUED_LEDGER": str(started[0].ledger.path)} if started else {}
        words = ("-n", 2, "--dead-after", 2, "--on-worker-death", "requeue")
        one = resqued(*words, command=commands[release], **env)
        started.append(one)
        one.wait_for_workers(2)
        return one

    return start


BOTH_WAYS = pytest.mark.parametrize(
    ("first", "second"), [("0.1", "this"), ("this", "0.1")], ids=["upgrade", "downgrade"]
)


def finish(connection, made, ledger, dead):
    """All have ended; those that were in hand have begun once more, and nobody else."""
    wait_for(lambda: {job.get_status() for job in made} == {"finished"}, 60, "the jobs to end")
    where = assert_one_place_each(connection, [job.id for job in made])
    assert set(where.values()) == {"finished:default"}
    assert {len(job.results()) for job in made} == {1}, "no job has two outcomes"
    again = {job_id: n for job_id, n in Counter(ledger.started()).items() if n > 1}
    assert set(again) <= dead, "nobody but those in hand has begun twice"
    assert max(Counter(ledger.ended()).values()) == 1, "no job has come to its end twice"
    assert connection.hlen(CLAIMS) == connection.hlen(RUNNING) == 0
    assert connection.zcard("rq:wip:default") == 0


@BOTH_WAYS
def test_all_of_one_is_killed_with_jobs_in_hand(start, queue, gate, connection, first, second):
    doors = [gate() for _ in range(2)]
    dying = start(first)
    made = [queue().enqueue(jobs.wait_at, str(door)) for door in doors]
    for door in doors:
        door.wait_until_reached()
    wait_for(lambda: connection.hlen(ARBITERS) == 1, 20, "its first heartbeat")
    dead = {job.id for job in made}
    made += [queue().enqueue(jobs.noop) for _ in range(20)]
    destroy(dying)
    for door in doors:
        door.open()
    other = start(second)
    finish(connection, made, dying.ledger, dead)
    other.wait_for("recovered worker=.*verdict=requeued|put back job=.*so is its arbiter", times=2)


@BOTH_WAYS
def test_all_of_one_is_killed_under_load(start, queue, connection, first, second):
    """Wherever its workers are: between two jobs, or with one taken and not begun."""
    dying, other = start(first), start(second)
    made = [queue().enqueue(jobs.sleep, 0.01) for _ in range(200)]
    wait_for(lambda: len(set(dying.ledger.started())) >= 40, 20, "some of the jobs to begin")
    destroy(dying)
    begun = Counter(dying.ledger.started())
    ended = Counter(dying.ledger.ended())
    dead = {job_id for job_id in begun if begun[job_id] > ended[job_id]}
    wait_for(
        lambda: sum(job.get_status() == "finished" for job in made) == len(made), 60, "all to end"
    )
    twice = {job_id for job_id, n in Counter(dying.ledger.started()).items() if n > 1}
    assert len(twice - dead) <= 2, "a worker that had no time to write the outcome"
    where = assert_one_place_each(connection, [job.id for job in made])
    assert set(where.values()) == {"finished:default"}
    assert {len(job.results()) for job in made} == {1}
    wait_for(lambda: not connection.hlen(CLAIMS) + connection.hlen(RUNNING), 20, "nothing in hand")
    assert other.running


@BOTH_WAYS
def test_only_the_arbiter_of_one_is_killed(start, queue, gate, connection, first, second):
    """Its workers finish what they have in hand, and the other is not in their way."""
    dying, _ = start(first), start(second)
    doors = [gate() for _ in range(4)]
    made = [queue().enqueue(jobs.wait_at, str(door)) for door in doors]
    for door in doors:
        door.wait_until_reached()
    made += [queue().enqueue(jobs.noop) for _ in range(20)]
    workers = dying.workers().values()
    dying.signal("KILL")
    dying.exit()
    for door in doors:
        door.open()
    finish(connection, made, dying.ledger, set())
    wait_for(lambda: not any(each.is_running() for each in workers), 20, "its workers to leave")


def test_hands_that_0_1_has_passed_over_are_cleared(start, queue, gate, connection):
    """This release dies, 0.1 recovers its job, and this release comes back."""
    door = gate()
    dying = start("this")
    job = queue().enqueue(jobs.wait_at, str(door))
    door.wait_until_reached()
    destroy(dying)
    door.open()
    start("0.1")
    finish(connection, [job], dying.ledger, {job.id})
    again = start("this")
    alive = {each.split(" ")[0].encode() for each in map(bytes.decode, connection.hkeys(ARBITERS))}
    assert alive
    wait_for(lambda: connection.hlen(HANDS) == 2, 20, "only its own workers have hands")
    finish(connection, [job], dying.ledger, {job.id})
    assert len(again.workers()) == 2


def test_an_arbiter_says_which_release_it_is(start, connection):
    start("this")
    (entry,) = wait_for(lambda: connection.hvals(ARBITERS), 20, "its first heartbeat")
    assert json.loads(entry)["version"] == package.__version__
