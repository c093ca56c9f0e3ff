"""Another server is the master now, behind the same name: everybody moves, and nothing is lost."""

from __future__ import annotations

import re
import time
from datetime import timedelta

import pytest
from rq import Queue
from rq.command import send_stop_job_command

from harness import jobs
from harness.waiting import wait_for

QUICK = ("--loop-timeout", 12, "--dead-after", 8, "-s")
"""Turns of three seconds, heartbeats every two: idle processes notice so much sooner."""


@pytest.fixture
def proxied(pair, proxy):
    """The name of the service; it leads to the master."""
    proxy.lead_to(pair[0].socket)
    return proxy


def fail_over(pair, proxy, *, linked=False):
    """The replica becomes the master. Connections to the old one stand, which now refuses writes.

    linked: the old one goes on to hear of what happens.
    """
    old, new = pair
    new.connect().replicaof("NO", "ONE")
    old.connect().replicaof("127.0.0.1", new.port if linked else 1)
    proxy.lead_to(new.socket)
    return new.connect()


def finished(job):
    return job.get_status() == "finished"


@pytest.mark.parametrize("linked", [True, False], ids=["linked", "alone"])
def test_everybody_moves_to_the_new_master(pair, proxied, gate, linked, resqued):
    arbiter = resqued("-v", "-n", 3, *QUICK, "--redis", proxied.url)
    before = {worker.pid for worker in arbiter.wait_for_workers(3).values()}
    steward = arbiter.wait_for_steward()
    door = gate()
    held = Queue(connection=pair[0].connect()).enqueue(jobs.wait_at, str(door))
    door.wait_until_reached()
    wait_for(lambda: pair[1].connect().exists("rq:resqued:running"), 10, "the replica to know")

    connection = fail_over(pair, proxied, linked=linked)
    queue = Queue(connection=connection)
    held = type(held).fetch(held.id, connection)
    door.open()
    wait_for(lambda: finished(held), 20, "the outcome of the job in hand")
    for _ in range(3):  # whoever is idle
        job = queue.enqueue(jobs.noop)
        wait_for(lambda job=job: finished(job), 20, "a job to be taken")
    due = queue.enqueue_in(timedelta(seconds=0), jobs.noop)
    wait_for(lambda: finished(due), 30, "the scheduler")
    there = gate()
    stopped = queue.enqueue(jobs.sleep, 60, str(there))
    there.wait_until_reached()

    def is_stopped():
        send_stop_job_command(connection, stopped.id)
        return stopped.get_status() == "stopped"

    wait_for(is_stopped, 20, "stop-job to be heard")
    assert arbiter.stewards()[0].pid == steward.pid
    still = {worker.pid for worker in arbiter.wait_for_workers(3).values()}
    assert len(before & still) >= 2, "only the worker whose job was stopped is replaced"
    told = re.findall(r" WARNING (\S+ (?:gen=\S+ )?pid=\d+) .*it is a replica", arbiter.log())
    assert len(told) == len(set(told)), "each process says it once"
    assert told or "redis answers again" in arbiter.log(), "one that is over at once is no warning"


def test_a_recovery_moves_too(pair, proxied, gate, resqued):
    arbiter = resqued("-v", "-n", 1, *QUICK, "--redis", proxied.url)
    arbiter.wait_for_workers(1)
    door = gate()
    queue = Queue(connection=pair[0].connect())
    job = queue.enqueue(jobs.wait_at, str(door))
    worker = door.wait_until_reached()
    wait_for(lambda: pair[1].connect().exists("rq:resqued:running"), 10, "the replica to know")
    pair[0].connect().replicaof("127.0.0.1", 1)
    arbiter.signal("KILL", pid=worker)
    arbiter.wait_for("DEBUG recovery=.*it is a replica", timeout=20)  # the steward's is for all
    connection = fail_over(pair, proxied)
    job = type(job).fetch(job.id, connection)
    wait_for(lambda: job.get_status() == "failed", 20, "the recovery")


def test_no_worker_hammers_a_server_that_takes_no_writes(pair, proxied, resqued):
    """It answers PING, and whatever else is only asked, so connecting succeeds each time."""
    old = pair[0].connect()
    old.replicaof("127.0.0.1", 1)
    arbiter = resqued("-n", 1, *QUICK, "--redis", proxied.url)
    arbiter.wait_for("it is a replica.*redis.sentinel://HOST:PORT/SERVICE")
    began, before = time.monotonic(), proxied.connections
    wait_for(lambda: time.monotonic() > began + 5, 10, "some time")
    assert proxied.connections - before < 25, "two processes, a try a second each, and the first"
    old.replicaof("NO", "ONE")
    arbiter.wait_for_workers(1)
    job = Queue(connection=old).enqueue(jobs.noop)
    wait_for(lambda: finished(job), 10, "a job")


@pytest.mark.parametrize(
    "error",
    [
        "MOVED 3999 127.0.0.1:6381",
        "CROSSSLOT Keys in request don't hash to the same slot",
    ],
)
def test_a_cluster_is_named(proxy, queue, error, resqued):
    arbiter = resqued("-n", 1, "--redis", proxy.url, expect_errors="is a cluster")
    arbiter.wait_for_workers(1)
    proxy.answer(error)
    arbiter.wait_for("ERROR steward=.*it is a cluster.*not part of a cluster", timeout=20)
    proxy.answer("")
    job = queue().enqueue(jobs.noop)
    arbiter.signal("USR1")  # it waits for a person, a quarter of a minute
    wait_for(lambda: finished(job), 30, "a job")
    assert len(re.findall(r"ERROR .*it is a cluster", arbiter.log())) == 1, "once for everybody"


@pytest.fixture(params=[16383, 8000, None], ids=["whole", "with half its slots", "without any"])
def cluster(make_server, request):
    """A cluster of one node. param: the last of the slots that it has."""
    cluster = make_server("c", "--cluster-enabled", "yes")
    if request.param is not None:
        cluster.connect().execute_command("CLUSTER", "ADDSLOTSRANGE", 0, request.param)
    return cluster


def test_a_real_cluster_is_named(cluster, resqued):
    arbiter = resqued("-n", 1, "--redis", cluster.url, expect_errors="is a cluster")
    arbiter.wait_for("ERROR .*it is a cluster")
