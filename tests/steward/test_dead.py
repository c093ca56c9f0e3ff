"""Machines and arbiters that are gone, all at once: others find what they held.

`ELSEWHERE` makes a PID namespace of its own, which for us is another machine: nobody can ask its
processes whether they live.
"""

from __future__ import annotations

import psutil
import pytest
from rq import Retry

from harness import jobs
from harness.oracle import assert_one_place_each
from harness.waiting import scaled, stays_true, wait_for

ELSEWHERE = ["unshare", "-rpf", "--kill-child", "--mount-proc"]
SOON = ("--dead-after", 2)
CLAIMS, RUNNING, ARBITERS = (f"rq:resqued:{name}" for name in ("claims", "running", "arbiters"))


@pytest.fixture
def elsewhere(resqued):
    """Start one there. It is process 1 there, and told to leave at the end."""
    inside = []

    def start(*arguments):
        outside = resqued(*arguments, under=ELSEWHERE)
        outside.wait_for_workers(1)
        inside.extend(psutil.Process(outside.pid).children())
        return outside

    yield start
    for process in inside:
        if process.is_running():
            process.terminate()
            process.wait(scaled(10))


@pytest.fixture(params=["here", "elsewhere"])
def lost(request, resqued, queue, gate, connection):
    """A machine that went down while it ran these jobs; `lost(retry=...)` gives the jobs."""

    def lost(*arguments, **options):
        under = ELSEWHERE if request.param == "elsewhere" else ()
        doors = [gate() for _ in range(2)]
        made = [queue("low").enqueue(jobs.wait_at, str(door), **options) for door in doors]
        arbiter = resqued("-n", 2, "--queue", "low", *SOON, *arguments, under=under)
        for door in doors:
            door.wait_until_reached()
        wait_for(lambda: connection.hlen(ARBITERS) == 1, 10, "its first heartbeat")
        arbiter.destroy()
        for door in doors:
            door.open()
        return made

    return lost


def test_jobs_are_put_back_and_that_is_counted(lost, resqued, connection):
    """Nothing says that a job has killed its whole arbiter, so it was interrupted."""
    made = lost()
    other = resqued("-n", 1, "--queue", "low", "--on-worker-death", "fail", *SOON)
    wait_for(lambda: {job.get_status() for job in made} == {"finished"}, 20, "the jobs to end")
    other.wait_for("is dead, and so is its arbiter", times=2)
    assert sorted(other.ledger.started()) == sorted(job.id for job in made)


def test_jobs_that_were_interrupted_too_often_fail_with_the_reason(lost, resqued, connection):
    made = lost()
    for job in made:
        connection.hset(job.key, "interruptions", 3)
    arbiter = resqued("-n", 1, "--queue", "low", *SOON)
    wait_for(lambda: {job.get_status() for job in made} == {"failed"}, 20, "the jobs to fail")
    where = assert_one_place_each(connection, [job.id for job in made])
    assert set(where.values()) == {"failed:low"}
    assert "so is its arbiter" in made[0].latest_result().exc_string
    assert_nothing_left(connection, arbiter)


def test_jobs_with_retries_run_again(lost, resqued, connection):
    made = lost(retry=Retry(1), job_timeout=-1)
    arbiter = resqued("-n", 2, "--queue", "low", *SOON)
    wait_for(lambda: {job.get_status() for job in made} == {"finished"}, 20, "the jobs to end")
    assert sorted(arbiter.ledger.started()) == sorted(job.id for job in made)
    assert_nothing_left(connection, arbiter)


def assert_nothing_left(connection, arbiter):
    wait_for(lambda: connection.hlen(ARBITERS) == 1, 20, "the dead arbiter to be forgotten")
    assert connection.hlen(CLAIMS) == connection.hlen(RUNNING) == 0
    assert not connection.keys("rq:execution*")
    assert connection.zcard("rq:wip:low") == 0
    count = len(arbiter.workers())
    wait_for(lambda: connection.scard("rq:workers") == count, 10, "only the living in rq info")


def test_put_back_if_that_is_the_policy(lost, resqued, connection):
    made = lost(job_timeout=-1)
    resqued("-n", 2, "--queue", "low", *SOON, "--on-worker-death", "requeue")
    wait_for(lambda: {job.get_status() for job in made} == {"finished"}, 20, "the jobs to end")


def test_several_at_once_do_it_once(lost, resqued, connection):
    made = lost()
    for job in made:
        connection.hset(job.key, "interruptions", 3)
    several = [resqued("-n", 1, "--queue", "low", *SOON) for _ in range(3)]
    wait_for(lambda: {job.get_status() for job in made} == {"failed"}, 20, "the jobs to fail")
    wait_for(lambda: connection.hlen(ARBITERS) == 3, 20, "the dead arbiter to be forgotten")
    assert [len(job.results()) for job in made] == [1, 1]
    assert len(several) == 3


def test_executions_of_queues_not_served_are_left_to_who_serves_them(lost, resqued, connection):
    """Their jobs' classes and code may be unknown here."""
    made = lost(retry=Retry(1))
    other = resqued("-n", 1, "--queue", "other", *SOON)
    other.wait_for(r"arbiter .* is dead")
    stays_true(lambda: {job.get_status() for job in made} == {"started"}, 3, "left alone")
    assert connection.hlen(RUNNING) == 2
    resqued("-n", 1, "--queue", "low", *SOON)
    wait_for(lambda: {job.get_status() for job in made} == {"finished"}, 20, "the jobs to end")
    wait_for(lambda: connection.hlen(ARBITERS) == 2, 20, "the dead arbiter to be forgotten")


def test_what_was_taken_and_not_begun_goes_back_to_the_front(resqued, connection, queue):
    """The machine went down between the taking of a job and its start."""
    first, second = (queue("low").enqueue(jobs.noop) for _ in range(2))
    connection.lmove("rq:queue:low", "rq:queue:low:intermediate")
    owner = f"lost.1-abc {'0' * 12} 812 4711 lost.1-abc.1.1"
    connection.hset(CLAIMS, owner, f"{first.id} rq:queue:low")
    resqued("-n", 1, "--queue", "other", *SOON)  # whoever serves the queue
    wait_for(lambda: queue("low").job_ids == [first.id, second.id], 20, "it to be put back")
    assert connection.hlen(CLAIMS) == 0


def test_the_living_are_left_alone(resqued, elsewhere, connection, queue, gate):
    """The arbiter is killed, and one elsewhere watches: the job is finished where it runs."""
    door = gate()
    job = queue("low").enqueue(jobs.wait_at, str(door), retry=Retry(5))
    here = resqued("-n", 1, "--queue", "low", *SOON)
    door.wait_until_reached()
    elsewhere("-n", 1, "--queue", "low", *SOON)
    wait_for(lambda: connection.hlen(ARBITERS) == 2, 10, "both heartbeats")
    here.signal("KILL")
    here.exit()
    stays_true(lambda: job.get_status() == "started", 5, "the job is left alone")
    door.open()
    wait_for(lambda: job.get_status() == "finished", 10, "the job to end")
    assert here.ledger.started() == [job.id]
    wait_for(lambda: connection.hlen(ARBITERS) == 1, 10, "the killed arbiter to be signed off")


def test_a_worker_that_is_left_alone_by_everybody_is_asked_itself(resqued, connection, queue, gate):
    """Arbiter, fork server and steward are killed; their worker still finishes its job."""
    door = gate()
    job = queue("low").enqueue(jobs.wait_at, str(door), retry=Retry(5))
    first = resqued("-n", 1, "--queue", "low", *SOON)
    door.wait_until_reached()
    wait_for(lambda: connection.hlen(ARBITERS) == 1, 10, "its first heartbeat")
    arbiter = psutil.Process(first.pid)
    others = [first.wait_for_steward(), *first.fork_servers()]
    for process in [arbiter, *others]:  # the arbiter, too: it is not to hear of the others' end
        first.signal("STOP", pid=process.pid)
        wait_for(lambda p=process: p.status() == psutil.STATUS_STOPPED, 10, "it to stand still")
    for process in [*others, arbiter]:
        first.signal("KILL", pid=process.pid)
    first.exit()
    resqued("-n", 1, "--queue", "low", *SOON)
    stays_true(lambda: job.get_status() == "started", 4, "the job is left alone")
    door.open()
    wait_for(lambda: job.get_status() == "finished", 10, "the job to end")
    assert first.ledger.started() == [job.id]


def test_an_outage_makes_nobody_look_dead(resqued, elsewhere, connection, valkey, queue, gate):
    door = gate()
    job = queue("low").enqueue(jobs.wait_at, str(door), retry=Retry(5))
    for start in (resqued, elsewhere):
        start("-n", 1, "--queue", "low", *SOON)
    door.wait_until_reached()
    wait_for(lambda: connection.hlen(ARBITERS) == 2, 10, "both heartbeats")
    valkey.freeze()
    stays_true(lambda: True, 4, "silence for twice as long as makes dead")
    valkey.thaw()
    stays_true(lambda: job.get_status() == "started", 3, "the job is left alone")
    door.open()
    wait_for(lambda: job.get_status() == "finished", 10, "the job to end")


def test_a_machine_that_slept_judges_nobody(resqued, elsewhere, connection, queue, gate):
    """A stopped steward, and with it all that it did not hear, is no reason to call others dead."""
    door = gate()
    job = queue("low").enqueue(jobs.wait_at, str(door), retry=Retry(5))
    elsewhere("-n", 1, "--queue", "low", *SOON)
    door.wait_until_reached()
    watcher = resqued("-n", 1, "--queue", "low", *SOON)
    steward = watcher.wait_for_steward()
    wait_for(lambda: connection.hlen(ARBITERS) == 2, 10, "both heartbeats")
    for _ in range(2):
        watcher.signal("STOP", pid=steward.pid)
        stays_true(lambda: job.get_status() == "started", 3, "asleep")
        watcher.signal("CONT", pid=steward.pid)
        stays_true(lambda: job.get_status() == "started", 0.5, "the job is left alone")
    door.open()
    wait_for(lambda: job.get_status() == "finished", 10, "the job to end")


def test_idle_workers_of_a_lost_machine_leave_the_list(resqued, connection):
    """Also those whose name does not begin with that of their arbiter."""
    named = resqued("-n", 1, "--name", "solo", *SOON, under=ELSEWHERE)
    wait_for(lambda: connection.scard("rq:workers") == 1, 20, "it in rq info")
    wait_for(lambda: connection.hlen(ARBITERS) == 1, 10, "its first heartbeat")
    named.destroy()
    arbiter = resqued("-n", 2, *SOON)
    arbiter.wait_for_workers(2)
    assert_nothing_left(connection, arbiter)
    assert b"rq:worker:solo" not in connection.smembers("rq:workers")
