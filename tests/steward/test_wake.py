"""A push starts its job at once, whatever the idle worker that would hear of it is doing."""

from __future__ import annotations

import signal
import time

from rq import Callback
from rq.job import Job

from harness import jobs
from harness.waiting import wait_for
from resqued.worker.idle import TURN

SOON = TURN / 2
"""Seconds; the promise is two, on a machine that has nothing else to do."""


def slow_callback(job, connection, *rest):
    connection.set("callback", 1)
    while connection.exists("callback"):
        time.sleep(0.02)


def stop_the_leader(arbiter, connection):
    """The one of the idle workers that Redis tells of pushes."""

    def leader():
        found = [c["name"] for c in connection.client_list() if "t" in c["flags"]]
        by_name = {worker["name"]: worker["pid"] for worker in arbiter.status()["workers"]}
        return next((by_name[name] for name in found if name in by_name), 0)

    pid = wait_for(leader, 10, "a leader")
    arbiter.signal("STOP", pid=pid)
    return pid


def assert_soon(queue, name, times):
    for _ in range(times):
        job = queue(name).enqueue(jobs.nothing)
        wait_for(lambda job=job: job.get_status() == "finished", SOON, "the job to be done")


def test_the_leader_is_stopped(resqued, connection, queue):
    arbiter = resqued("-n", 4, "--queue", "a", "--queue", "b=1", "--loop-timeout", 300)
    arbiter.wait_for_workers(4)
    arbiter.wait_for_steward()
    stopped = [stop_the_leader(arbiter, connection)]
    assert_soon(queue, "a", 4)
    stopped.append(arbiter.workers()[1].pid)
    arbiter.signal("STOP", pid=stopped[-1])
    job = queue("b").enqueue(jobs.nothing)  # nobody else serves it
    assert_soon(queue, "a", 3)
    for pid in stopped:
        arbiter.signal("CONT", pid=pid)
    wait_for(lambda: job.get_status() == "finished", 15, "the job of b")


def test_the_leader_is_stopped_among_those_that_serve_the_rest(resqued, connection, queue):
    arbiter = resqued("-n", 3, "--queue", "a", "--queue", "*", "--loop-timeout", 300)
    arbiter.wait_for_workers(3)
    arbiter.wait_for_steward()
    queue("other").enqueue(jobs.nothing)
    wait_for(lambda: not queue("other").job_ids, 15, "the queue to be known")
    pid = stop_the_leader(arbiter, connection)
    assert_soon(queue, "other", 3)
    arbiter.signal("CONT", pid=pid)


def test_the_leader_maintains(resqued, connection, queue):
    arbiter = resqued("-n", 3, "--queue", "a", "--maintenance-interval", 4)
    arbiter.wait_for_workers(3)
    arbiter.wait_for_steward()
    job = Job.create(
        jobs.nothing,
        id="abandoned",
        connection=connection,
        origin="a",
        on_failure=Callback(slow_callback, timeout=60),
        status="started",
    )
    job.save()
    connection.zadd("rq:wip:a", {"abandoned:execution": 1})
    wait_for(lambda: connection.exists("callback"), 20, "maintenance to have begun")
    assert_soon(queue, "a", 4)
    connection.delete("callback")
    wait_for(lambda: job.get_status() == "failed", 10, "maintenance to be over")


def test_who_is_awake_is_not_woken_for_ever(resqued, connection, queue):
    """Jobs of a queue whose one worker is busy, or stopped, cost the others nothing."""
    arbiter = resqued("-n", 3, "--queue", "a", "--queue", "b=1", "--loop-timeout", 300)
    workers = arbiter.wait_for_workers(3)
    arbiter.wait_for_steward()
    workers[1].send_signal(signal.SIGSTOP)
    job = queue("b").enqueue(jobs.nothing)
    time.sleep(1)
    scripts = connection.info("commandstats")["cmdstat_evalsha"]["calls"]
    time.sleep(3)
    more = connection.info("commandstats")["cmdstat_evalsha"]["calls"] - scripts
    assert more < 10, "heartbeats, the steward's looks, and none of the workers'"
    workers[1].send_signal(signal.SIGCONT)
    wait_for(lambda: job.get_status() == "finished", 15, "the job to be done")


def test_who_does_not_lead_asks_redis_nothing_while_a_steward_attends(resqued, connection):
    arbiter = resqued("-n", 12, "--loop-timeout", 4, "--dead-after", 4)  # turns of a second
    arbiter.wait_for_workers(12)
    arbiter.wait_for_steward()

    def calls(name):
        return connection.info("commandstats").get(f"cmdstat_{name}", {"calls": 0})["calls"]

    connection.config_resetstat()
    wait_for(lambda: calls("hset") >= 13 * 6, 20, "six rounds of heartbeats, one a second")
    assert calls("evalsha") < 6 * 6, "those, other duties of the steward, and one worker's looks"
