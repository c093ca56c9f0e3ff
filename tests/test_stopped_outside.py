"""A stop or kill that reaches every process of the service, as of a container: nothing is left."""

from __future__ import annotations

import contextlib
import signal

import psutil
import pytest

from harness import jobs, processes
from harness.waiting import wait_for

SLOW = """
    import pathlib, time
    if pathlib.Path("slow").exists():
        pathlib.Path("importing").touch()
        time.sleep(2.0)
"""
"""An application whose import takes longer than an arbiter waits for the answer of Redis."""


@pytest.fixture
def job(queue, gate):
    """`job(function)`: one, and its gate."""

    def put(function):
        door = gate()
        return queue().enqueue(function, str(door)), door

    return put


def signal_all(family, name):
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(name)


@pytest.mark.parametrize("cls", ["resqued.worker.rq_worker.ResquedWorker", "rq.Worker"])
def test_term_to_every_process_puts_back_a_job_that_has_to_be_killed(resqued, queue, job, cls):
    """The fork server, told to leave with its worker, is still there to recover the job."""
    arbiter = resqued("-n", 1, "-w", cls, "-r", "app", app=SLOW, expect_errors="SIGTERM|killed")
    arbiter.wait_for_workers(1)
    stuck, door = job(jobs.stuck_in_c)
    door.wait_until_reached()
    (arbiter.directory / "slow").touch()
    family = [psutil.Process(arbiter.pid), *processes.descendants(arbiter.pid)]
    signal_all(family, signal.SIGTERM)
    assert arbiter.exit(20) == 0
    assert stuck.get_status() == "queued"
    assert queue().job_ids == [stuck.id]
    assert not (arbiter.directory / "importing").exists(), "no other fork server was needed"


def test_a_stop_starts_a_fork_server_for_a_job_whose_worker_and_fork_server_were_killed(
    resqued, queue, job
):
    arbiter = resqued("-n", 1, "-r", "app", app=SLOW, expect_errors="ended|died")
    worker = arbiter.wait_for_workers(1)[1]
    lost, door = job(jobs.wait_at)
    door.wait_until_reached()
    (arbiter.directory / "slow").touch()
    (server,) = arbiter.fork_servers()
    arbiter.signal("STOP")
    server.kill()
    worker.kill()
    arbiter.signal("TERM")
    arbiter.signal("CONT")
    assert arbiter.exit(20) == 0
    assert (arbiter.directory / "importing").exists()
    assert lost.get_status() == "failed" or queue().job_ids == [lost.id]


def test_a_service_whose_workers_are_killed_while_they_boot_comes_up(resqued, queue):
    """For a while, from outside: that is no application that cannot work."""
    arbiter = resqued(
        "-n",
        1,
        config="""
            import os, pathlib, time

            def after_fork():
                with open("booted", "a") as file:
                    file.write(f"{os.getpid()}\\n")
                while not pathlib.Path("may-boot").exists():
                    time.sleep(0.01)
        """,
        expect_errors="ended before it was ready",
    )
    booted = arbiter.directory / "booted"
    for times in range(1, 5):
        pids = wait_for(
            lambda times=times: (
                booted.exists() and len(found := booted.read_text().split()) >= times and found
            ),
            30,
            "a worker that boots",
        )
        if times == 4:
            (arbiter.directory / "may-boot").touch()
        else:
            psutil.Process(int(pids[-1])).kill()
    arbiter.wait_for_workers(1)
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.is_finished, what="a job to be done")
