"""Applications that patch the interpreter with gevent when they are imported."""

from __future__ import annotations

import time

import pytest
from rq.command import send_stop_job_command

from harness.waiting import wait_for
from resqued.worker.idle import TURN

APP = """
from gevent import monkey; monkey.patch_all()
import os, subprocess, time
import gevent

def noop():
    return os.getpid()

def sleeps(seconds):
    time.sleep(seconds)

def spins(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass

def spawns():
    return [each.get() for each in [gevent.spawn(lambda n=n: n * n) for n in range(3)]]

def waits_for_greenlet(seconds):
    gevent.spawn(time.sleep, seconds).join()

def runs_a_program():
    return subprocess.run(["sh", "-c", "sleep 0.1; exit 3"]).returncode

def forks():
    pid = os.fork()
    if pid == 0:
        os._exit(5)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def dies():
    os.kill(os.getpid(), 9)
"""

ERRORS = "killed|JobTimeout|Traceback|failed job|rq.worker"


@pytest.fixture(params=[(), ("--no-preload",)], ids=["preloaded", "in the worker"])
def arbiter(request, resqued):
    one = resqued("-r", "app", "--kill-after", "60", *request.param, app=APP, expect_errors=ERRORS)
    one.wait_for_workers(1)
    return one


@pytest.fixture
def ended(queue):
    """`ended("app.noop")`: how the job ended, and what it returned."""

    def ended(function, *arguments, within=40, **options):
        job = queue().enqueue(function, *arguments, **options)
        wait_for(lambda: job.get_status(refresh=True) in ("finished", "failed"), within, function)
        return job.get_status(), job.return_value()

    return ended


def test_jobs_run_wait_and_start_processes(arbiter, ended):
    assert ended("app.noop")[0] == "finished"
    assert ended("app.spawns") == ("finished", [0, 1, 4])
    assert ended("app.runs_a_program") == ("finished", 3)
    assert ended("app.forks") == ("finished", 5)
    time.sleep(1)  # it waits for a push meanwhile
    assert ended("app.noop", within=TURN / 2)[0] == "finished"
    assert ended("app.dies")[0] == "failed"
    arbiter.wait_for("killed|signal 9")
    arbiter.wait_for_workers(1)
    assert ended("app.noop")[0] == "finished"


@pytest.mark.parametrize("function", ["app.sleeps", "app.waits_for_greenlet", "app.spins"])
def test_a_timeout_ends_a_job_in_time(arbiter, ended, connection, function):
    assert ended(function, 50, job_timeout=1)[0] == "failed"
    arbiter.wait_for("JobTimeoutException", timeout=20)


@pytest.mark.parametrize("function", ["app.sleeps", "app.waits_for_greenlet"])
def test_a_stop_command_ends_a_job_without_its_worker_being_killed(
    arbiter, queue, connection, function
):
    job = queue().enqueue(function, 50)
    wait_for(lambda: job.get_status(refresh=True) == "started", 30, "the job to begin")
    time.sleep(0.5)  # into its wait
    mark = arbiter.mark()
    send_stop_job_command(connection, job.id)
    wait_for(lambda: job.get_status(refresh=True) == "stopped", 20, "the job to be stopped")
    assert "signal 9" not in arbiter.log()[mark:]


def test_term_puts_the_job_back_and_everything_leaves_in_time(arbiter, queue):
    job = queue().enqueue("app.sleeps", 50)
    wait_for(lambda: job.get_status(refresh=True) == "started", 30, "the job to begin")
    time.sleep(0.5)
    assert arbiter.stop("TERM", timeout=20) == 0
    assert job.get_status(refresh=True) == "queued"
    assert queue().job_ids == [job.id]
    assert "signal 9" not in arbiter.log()


def test_quit_lets_the_job_finish(arbiter, queue):
    job = queue().enqueue("app.sleeps", 2)
    wait_for(lambda: job.get_status(refresh=True) == "started", 30, "the job to begin")
    assert arbiter.stop("QUIT", timeout=30) == 0
    assert job.get_status(refresh=True) == "finished"
