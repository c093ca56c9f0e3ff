"""Drain, stop now, stop-job, kill-horse, timeout, kill-after: against whatever a job does."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from rq import Callback, Retry
from rq.command import send_kill_horse_command, send_stop_job_command

from harness import jobs, processes
from harness.oracle import assert_one_place_each
from harness.waiting import scaled, wait_for
from isolation import tasks

BODIES = {
    "python sleep": (jobs.sleep, (1000,)),
    "C code": (jobs.stuck_in_c, ()),
    "swallows": (jobs.swallow, ()),
}
CALLBACKS = {
    "callback": tasks.hang_on_success,
    "callback in C code": tasks.hang_in_c_on_success,
}


@pytest.fixture
def begun(isolated, queue, gate, ahead):
    """`begun(name)`: the arbiter, and a job that has come to where it stays."""

    def begin(name, *arguments, callback_timeout=1000, **options):
        arbiter = isolated(
            *arguments, expect_errors="raised|failed job|rq.worker|Traceback|told|job="
        )
        door = gate()
        ahead()
        if name in BODIES:
            function, words = BODIES[name]
            job = queue().enqueue(function, *words, str(door), **options)
        else:
            callback = Callback(CALLBACKS[name], timeout=callback_timeout)
            job = queue().enqueue(tasks.give, str(door), on_success=callback, **options)
        child = door.wait_until_reached()
        return arbiter, job, child

    return begin


NAMES = [*BODIES, *CALLBACKS]


@pytest.mark.parametrize("name", NAMES)
def test_stop_now_puts_the_job_back_at_once(begun, queue, connection, name):
    arbiter, job, child = begun(name)
    began = time.monotonic()
    assert arbiter.stop("TERM") == 0
    assert time.monotonic() - began < scaled(3)
    assert not processes.alive(child)
    assert queue().job_ids == [job.id]
    assert connection.hget(job.key, "interruptions") == b"1"
    assert_one_place_each(connection, [job.id])
    assert "recovered" not in arbiter.log()


@pytest.mark.parametrize("name", NAMES)
def test_stop_job_and_kill_horse_end_it_and_the_worker_lives_on(
    begun, queue, connection, ends, name
):
    arbiter, job, child = begun(
        name, retry=Retry(2), on_stopped=Callback(tasks.on_stopped, timeout=10)
    )
    worker = arbiter.wait_for_workers(1)[1].pid
    send_stop_job_command(connection, job.id)
    assert ends(job) == "stopped"
    assert not processes.alive(child)
    (said,) = [raw.decode() for raw in connection.lrange("told", 0, -1)]
    assert said.startswith(f"stopped {job.args!r} ")
    assert int(said.split()[-1]) not in (child, worker)
    killed = queue().enqueue(jobs.sleep, 1000)
    wait_for(lambda: killed.get_status(refresh=True) == "started", 10, "the next job")
    send_kill_horse_command(connection, arbiter.status()["workers"][0]["name"])
    assert ends(killed) == "failed"
    assert "kill-horse" in killed.latest_result().exc_string
    assert ends(queue().enqueue(tasks.pid)) == "finished"
    assert arbiter.wait_for_workers(1)[1].pid == worker


@pytest.mark.parametrize("name", ["C code", "swallows", "callback in C code"])
def test_what_outlives_its_timeout_is_killed(begun, queue, ends, name):
    arbiter, job, child = begun(
        name, "--kill-after", 1, job_timeout=1, callback_timeout=1, retry=None
    )
    worker = arbiter.wait_for_workers(1)[1].pid
    assert ends(job) == "failed"
    assert "--kill-after" in job.latest_result().exc_string
    assert not processes.alive(child)
    assert ends(queue().enqueue(tasks.pid)) == "finished"
    assert arbiter.wait_for_workers(1)[1].pid == worker


def test_a_timeout_is_raised_in_the_child(begun, queue, ends):
    arbiter, job, _ = begun("python sleep", job_timeout=1)
    worker = arbiter.wait_for_workers(1)[1].pid
    assert ends(job) == "failed"
    assert "JobTimeoutException" in job.latest_result().exc_string
    assert ends(queue().enqueue(tasks.pid)) == "finished"
    assert arbiter.wait_for_workers(1)[1].pid == worker


def test_a_drain_lets_it_finish_and_signals_to_everybody_do_no_harm(isolated, queue, gate, ends):
    arbiter = isolated()
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    child = door.wait_until_reached()
    status = Path(f"/proc/{child}/status")
    for name in ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH"):
        arbiter.signal(name, pid=child)
        # one at a time: many at once overflow the stack that faulthandler has for handlers
        wait_for(lambda: "ShdPnd:\t0000000000000000" in status.read_text(), 10, "its delivery")
    arbiter.signal("QUIT")
    arbiter.wait_for("draining|asked to stop")
    door.open()
    assert arbiter.exit(20) == 0
    assert ends(job) == "finished", job.latest_result().exc_string


def test_what_a_cut_job_has_started_ends_with_it(isolated, queue, gate, connection, ends):
    isolated()
    door = gate()
    job = queue().enqueue(tasks.daemonizes_and_waits, str(door))
    door.wait_until_reached()
    daemon = int(Path(f"{door}.daemon").read_text())
    assert processes.alive(daemon)
    send_stop_job_command(connection, job.id)
    assert ends(job) == "stopped"
    wait_for(lambda: not processes.alive(daemon), 10, "the daemon to end")
