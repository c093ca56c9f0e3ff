"""A child that dies: its job fails or is retried at once, with the cause; the worker lives on."""

from __future__ import annotations

import os
import signal

import pytest
from rq import Retry

from harness import jobs, processes
from harness.oracle import assert_one_place_each
from harness.waiting import wait_for
from isolation import tasks

CAUSES = {
    "exit": (jobs.vanish, (3,), "with exit status 3"),
    "exit 0": (jobs.vanish, (0,), "with exit status 0"),
    "segfault": (jobs.segfault, (), "killed by SIGSEGV"),
    "kill": (jobs.kill_self, (), "killed by SIGKILL"),
    "memory": (tasks.eat, (8,), "killed by SIGKILL"),
}


@pytest.mark.parametrize("forked", ["for it", "ahead"])
def test_each_cause_is_named_and_the_worker_lives_on(isolated, queue, ends, ahead, forked):
    arbiter = isolated(expect_errors="job=|Fatal|Traceback|Segmentation")
    worker = arbiter.wait_for_workers(1)[1].pid
    for name, (function, words, cause) in CAUSES.items():
        if forked == "ahead":
            ahead()
        job = queue().enqueue(function, *words)
        assert ends(job) == "failed", name
        reason = job.latest_result().exc_string
        assert "Work-horse terminated unexpectedly; waitpid returned" in reason
        assert cause in reason, name
    assert arbiter.wait_for_workers(1)[1].pid == worker
    assert ends(queue().enqueue(tasks.pid)) == "finished"


def test_memory_that_is_out_and_sys_exit_are_failures_as_others(isolated, queue, ends):
    isolated(expect_errors="raised|failed job|rq.worker|Traceback|told|job=")
    job = queue().enqueue(tasks.eat_to_the_limit)
    assert ends(job) == "failed"
    assert "MemoryError" in job.latest_result().exc_string
    left = queue().enqueue(jobs.leave, 2)
    assert ends(left) == "failed"
    assert "SystemExit: 2" in left.latest_result().exc_string


def test_a_job_that_kills_its_child_is_retried_until_the_limit(isolated, queue, connection, ends):
    isolated(expect_errors="job=")
    job = queue().enqueue(jobs.vanish, retry=Retry(10))
    wait_for(lambda: job.get_status(refresh=True) == "failed", 30, "the job to fail for good")
    assert "3 times, which is the limit" in job.latest_result().exc_string
    assert connection.hget(job.key, "deaths") == b"3"


def test_on_worker_death_requeue_holds_for_a_child(isolated, queue, ends):
    arbiter = isolated("--on-worker-death", "requeue", expect_errors="job=")
    job = queue().enqueue(jobs.vanish)
    wait_for(lambda: job.get_status(refresh=True) == "failed", 30, "the job to fail for good")
    assert len(arbiter.wait_for("put back job=")) == 2


@pytest.mark.parametrize("whom", ["worker", "group"])
def test_a_worker_that_is_killed_takes_its_child_with_it(
    isolated, queue, gate, connection, ends, ahead, whom
):
    arbiter = isolated(expect_errors="job=|worker=")
    door = gate()
    ahead()
    job = queue().enqueue(jobs.sleep, 1000, str(door), retry=Retry(1, interval=1000))
    child = door.wait_until_reached()
    worker = arbiter.wait_for_workers(1)[1].pid
    (os.kill if whom == "worker" else os.killpg)(worker, signal.SIGKILL)
    assert ends(job) == "scheduled"
    assert not processes.alive(child)
    assert_one_place_each(connection, [job.id])
    arbiter.wait_for_workers(1)
    assert ends(queue().enqueue(tasks.pid)) == "finished"
