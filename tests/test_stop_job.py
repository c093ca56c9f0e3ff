"""stop-job against the callbacks of a job, under an arbiter that kills what does not leave."""

from __future__ import annotations

import pytest
from rq import Callback
from rq.command import send_stop_job_command

from harness import jobs
from harness.waiting import wait_for

APP = """
    import time
    from pathlib import Path
    from harness import jobs

    def hang(job, connection, *rest):
        Path(job.meta["place"]).touch()
        time.sleep(1000)

    def hang_in_c(job, connection, *rest):
        Path(job.meta["place"]).touch()
        jobs.stuck_in_c()

    def count(job, connection):
        connection.rpush("called", "begun")
        time.sleep(3)
        connection.rpush("called", "ended")
"""


@pytest.mark.parametrize("callback", ["hang", "hang_in_c"])
def test_a_callback_ends_long_before_its_timeout(resqued, queue, connection, tmp_path, callback):
    arbiter = resqued(
        "-n",
        1,
        "-r",
        "app",
        app=APP,
        expect_errors="killed|ended|raised|Traceback|failed job|rq.worker",
    )
    arbiter.wait_for_workers(1)
    place = tmp_path / "place"
    job = queue().enqueue(
        jobs.noop, meta={"place": str(place)}, on_success=Callback(f"app.{callback}", timeout=100)
    )
    wait_for(place.exists, 10, "the callback")
    send_stop_job_command(connection, job.id)
    wait_for(lambda: job.get_status(refresh=True) == "stopped", 15, "the job to be stopped")
    arbiter.wait_for_workers(1)


def test_a_slow_stopped_callback_is_called_once_and_ends(resqued, queue, connection, gate):
    arbiter = resqued(
        "-n", 1, "-r", "app", "--loop-timeout", 1, app=APP, expect_errors="raised|failed job"
    )
    arbiter.wait_for_workers(1)
    there = gate()
    job = queue().enqueue(jobs.sleep, 100, str(there), on_stopped=Callback("app.count", timeout=30))
    there.wait_until_reached()
    send_stop_job_command(connection, job.id)
    wait_for(lambda: job.get_status(refresh=True) == "stopped", 15, "the job to be stopped")
    assert connection.lrange("called", 0, -1) == [b"begun", b"ended"]
    assert "stuck" not in arbiter.log()
