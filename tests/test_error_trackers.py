"""An error tracker that the application sets up hears of each failed job, and exactly once."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from rq import Retry
from rq.command import send_kill_horse_command, send_stop_job_command

from harness.waiting import read_lines, wait_for

APP = """
    import faulthandler, json, os, signal, time
    import sentry_sdk
    from harness.jobs import stuck_in_c
    from sentry_sdk.transport import Transport

    class Transport(Transport):
        '''Keeps events until it is told to flush, as a slow line would.'''

        held = []

        def capture_envelope(self, envelope):
            if (event := envelope.get_event()) is not None:
                self.held.append(event)

        def flush(self, timeout, callback=None):
            with open("events", "a") as file:
                for event in self.held:
                    error = (event.get("exception") or {"values": [{}]})["values"][-1]
                    told = [event.get("logger"), error.get("type"), error.get("value")]
                    file.write(json.dumps(told) + "\\n")
            self.held.clear()

        def kill(self):
            self.flush(0)

    sentry_sdk.init("http://key@localhost:1/1", transport=Transport)

    def fails():
        raise ValueError("fails")

    def times_out():
        time.sleep(60)

    def is_killed():
        os.kill(os.getpid(), signal.SIGKILL)

    def crashes():
        faulthandler._sigsegv()

    def vanishes():
        os._exit(0)

    def is_stuck_in_c():
        stuck_in_c()

    def waits():
        time.sleep(60)

    def works():
        return 1
"""


def heard(arbiter) -> Counter[str]:
    """What the tracker was told of: the function of a killed job, else what was raised."""
    events = [json.loads(line) for line in read_lines(arbiter.directory / "events")]
    assert not [event for event in events if event[0]], "nothing that was only logged"
    return Counter(
        value.partition(":")[0] if kind == "JobKilled" else f"{kind} {value}"
        for _, kind, value in events
    )


def ended(job, status, timeout=20):
    wait_for(lambda: job.get_status() == status, timeout, f"job {job.func_name} to be {status}")


@pytest.mark.parametrize(
    "leaves",
    [["--max-jobs", 1], [], ["--isolation", "fork"]],
    ids=["recycled", "drained", "in children"],
)
def test_each_failed_job_arrives_once(resqued, queue, connection, leaves):
    arbiter = resqued(
        *["-n", 1, "-r", "app", "--kill-after", 1, *leaves],
        app=APP,
        expect_errors="failed job|rq.worker|Traceback|stuck|Fatal|handle|job=",
    )
    arbiter.wait_for_workers(1)

    def run(name, status="failed", **how):
        ended(queue().enqueue(f"app.{name}", **how), status)

    run("works", "finished")
    run("is_killed")
    run("crashes")
    run("vanishes")
    run("is_stuck_in_c", job_timeout=1)
    for command, status in ((send_stop_job_command, "stopped"), (None, "failed")):
        job = queue().enqueue("app.waits")
        ended(job, "started")
        if command:
            command(connection, job.id)
        else:
            job.refresh()
            send_kill_horse_command(connection, job.worker_name)
        ended(job, status)
    run("times_out", job_timeout=1)
    run("fails")
    assert arbiter.stop("QUIT") == 0
    assert heard(arbiter) == {
        "ValueError fails": 1,
        "JobTimeoutException Task exceeded maximum timeout value (1 seconds)": 1,
        "app.is_killed": 1,
        "app.crashes": 1,
        "app.vanishes": 1,
        "app.is_stuck_in_c": 1,
        "app.waits": 1,
    }


def test_a_job_that_is_retried_arrives_when_it_has_failed_for_good(resqued, queue):
    arbiter = resqued(
        "-n", 1, "-r", "app", app=APP, expect_errors="failed job|rq.worker|Traceback|killed"
    )
    arbiter.wait_for_workers(1)
    for name in ("is_killed", "fails"):
        ended(queue().enqueue(f"app.{name}", retry=Retry(max=1)), "failed")
    assert arbiter.stop("QUIT") == 0
    assert heard(arbiter) == {"ValueError fails": 1, "app.is_killed": 1}


def test_what_only_resqued_has_to_say_is_no_error_of_the_application(resqued, queue):
    """A plugin that raises, an unreadable job: in resqued's log, at its highest levels."""
    arbiter = resqued(
        *["-n", 1, "-r", "app"],
        app=APP,
        config="def before_job(worker, job): raise OSError('a plugin is broken')",
        expect_errors="a plugin is broken|Traceback",
    )
    ended(queue().enqueue("app.works"), "finished")
    arbiter.wait_for("ERROR .*a plugin is broken")
    assert arbiter.stop("QUIT") == 0
    assert not heard(arbiter)
