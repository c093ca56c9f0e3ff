"""`--name`, wanted by two arbiters at once: every worker has a name of its own, and keeps it."""

from __future__ import annotations

import os
import signal

import psutil
import pytest
from rq import Worker

from harness import jobs, processes
from harness.waiting import scaled, stays_true, wait_for

ELSEWHERE = ["unshare", "-rpf", "--kill-child", "--mount-proc"]


def names(connection):
    return sorted(worker.name for worker in Worker.all(connection=connection))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("under", [(), ELSEWHERE], ids=["here", "elsewhere"])
def test_replicas_of_one_deployment(resqued, connection, queue, count, under):
    wanted = ("-n", count, "--name", "web", "--dead-after", 4, "--queue", "a")
    first = resqued(*wanted)
    first.wait_for_workers(count)
    wait_for(lambda: len(names(connection)) == count, 15, "the first in the list")
    before = names(connection)
    second = resqued(*wanted, under=under)
    wait_for(lambda: len(names(connection)) == 2 * count, 30, "all in the list")
    assert set(before) < set(names(connection)), "the first keep their names"
    later = set(names(connection)) - set(before)
    assert all(name.startswith("web") for name in later)
    assert first.stop("TERM", 20) == 0
    wait_for(lambda: set(names(connection)) == later, 15, "the second alone in the list")
    stays_true(lambda: set(names(connection)) == later, 2, "and they stay there")
    job = queue("a").enqueue(jobs.noop)
    wait_for(lambda: job.get_status() == "finished", 15, "a job to be done")
    if under:
        for process in psutil.Process(second.pid).children():
            process.terminate()
            process.wait(scaled(20))


def test_the_name_of_the_dead_is_free(resqued, connection, queue, gate):
    """Everything is killed, and started again at once; a job in hand is recovered by its name."""
    arbiter = resqued("-n", 1, "--name", "web")
    arbiter.wait_for_workers(1)
    wait_for(lambda: names(connection) == ["web"], 15, "it in the list")
    everybody = [arbiter.pid, *(process.pid for process in processes.descendants(arbiter.pid))]
    for signum in (signal.SIGSTOP, signal.SIGKILL):
        for pid in everybody:
            os.kill(pid, signum)
    arbiter.exit()
    again = resqued("-n", 1, "--name", "web", "--on-worker-death", "requeue")
    again.wait_for_workers(1)
    wait_for(lambda: names(connection) == ["web"], 15, "it in the list again")
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    door.wait_until_reached()
    again.workers()[1].kill()
    wait_for(lambda: len(again.ledger.started(job.id)) == 2, 20, "the job to be run again")
    door.open()
    wait_for(lambda: job.get_status() == "finished", 15, "the job to end")
    assert names(connection) == ["web"]


def test_a_worker_with_a_longer_name_is_recovered(resqued, connection, queue, gate):
    first = resqued("-n", 1, "--name", "web", "--queue", "a")
    first.wait_for_workers(1)
    second = resqued("-n", 1, "--name", "web", "--queue", "b", "--on-worker-death", "requeue")
    second.wait_for_workers(1)
    door = gate()
    job = queue("b").enqueue(jobs.wait_at, str(door))
    door.wait_until_reached()
    second.workers()[1].kill()
    wait_for(lambda: len(second.ledger.started(job.id)) == 2, 20, "the job to be run again")
    door.open()
    wait_for(lambda: job.get_status() == "finished", 15, "the job to end")
    assert len(names(connection)) == 2
    assert "web" in names(connection)


def test_a_worker_of_rqs_own_keeps_its_name(resqued, connection):
    stock = Worker(["a"], name="web", connection=connection, prepare_for_work=False)
    stock.hostname, stock.pid, stock.ip_address = "h", 1, "unknown"
    stock.register_birth()
    arbiter = resqued("-n", 1, "--name", "web", "--queue", "a")
    arbiter.wait_for_workers(1)
    wait_for(lambda: len(names(connection)) == 2, 15, "both in the list")
    assert connection.hget("rq:worker:web", "hostname") == b"h"
    assert arbiter.status()["workers"][0]["name"] != "web"
    stock.register_death()
