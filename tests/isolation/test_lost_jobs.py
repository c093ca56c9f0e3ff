"""A job whose process dies while its worker lives: on the record, and told to plugins."""

from __future__ import annotations

import json

import pytest
from rq import Retry
from rq.command import send_stop_job_command

from harness import jobs
from harness.waiting import wait_for

WAYS = {"fork": ("--isolation", "fork"), "rq.Worker": ("-w", "rq.Worker")}

CONFIG = """
    import json, pathlib
    from resqued import hookimpl

    @hookimpl
    def job_lost(arbiter, worker, job_id, verdict):
        with open("lost", "a") as file:
            file.write(json.dumps([job_id, verdict, worker.number, worker.pid]) + chr(10))
"""


@pytest.fixture(params=WAYS)
def lost(request, resqued):
    """`lost(*arguments)`: start it; then `lost.told(n)`: what the hook was told, n times."""

    def start(*arguments, expected="killed|died"):
        arbiter = resqued(
            "-n", 1, *WAYS[request.param], *arguments, config=CONFIG, expect_errors=expected
        )
        path = arbiter.directory / "lost"

        def told(times):
            def enough():
                lines = path.read_text().splitlines() if path.exists() else []
                return len(lines) >= times and [json.loads(line) for line in lines]

            return wait_for(enough, 15, f"{times} jobs to be told lost")

        return arbiter, told

    return start


def test_a_job_that_kills_its_process_is_lost(lost, queue):
    arbiter, told = lost()
    first = queue().enqueue(jobs.kill_self)
    second = queue().enqueue(jobs.kill_self, retry=Retry(1, interval=600))
    found = told(2)
    (worker,) = arbiter.workers().values()
    assert found == [[first.id, "failed", 1, worker.pid], [second.id, "retried", 1, worker.pid]]


def test_one_that_goes_back_to_its_queue_is_lost_each_time(lost, queue):
    _, told = lost("--on-worker-death", "requeue", "--max-deaths", 3)
    job = queue().enqueue(jobs.kill_self)
    assert [verdict for _, verdict, *_ in told(3)] == ["requeued", "requeued", "failed"]
    assert job.get_status() == "failed"


def test_one_that_fails_or_is_stopped_is_not(lost, queue, gate):
    _, told = lost(expected="failed job|exception raised|Traceback")
    queue().enqueue(jobs.fail)
    door = gate()
    stopped = queue().enqueue(jobs.sleep, 60, str(door))
    door.wait_until_reached()
    send_stop_job_command(stopped.connection, stopped.id)
    wait_for(lambda: stopped.get_status() == "stopped", 10, "it to be stopped")
    last = queue().enqueue(jobs.kill_self)
    assert [job_id for job_id, *_ in told(1)] == [last.id]
