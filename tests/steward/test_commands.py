"""RQ's commands reach the workers of an arbiter through its steward, as they reach RQ's own."""

from __future__ import annotations

import time

import pytest
from rq import Retry
from rq.command import (
    send_kill_horse_command,
    send_shutdown_command,
    send_stop_execution_command,
    send_stop_job_command,
)

from harness import jobs
from harness.oracle import assert_one_place_each
from harness.waiting import stays_true, wait_for


@pytest.fixture
def arbiter(resqued):
    """Two workers and a steward that has said hello."""
    arbiter = resqued("-n", 2, expect_errors="Job stopped|stack|rq.worker|Traceback")
    arbiter.wait_for_workers(2)
    arbiter.wait_for_steward()
    return arbiter


def test_stop_job(arbiter, queue, gate, connection):
    door = gate()
    job = queue().enqueue(jobs.sleep, 60, str(door), retry=Retry(3))
    door.wait_until_reached()
    began = time.monotonic()
    send_stop_job_command(connection, job.id)
    wait_for(lambda: job.get_status() == "stopped", 5, "the job to be stopped")
    assert time.monotonic() - began < 1.5
    assert assert_one_place_each(connection, [job.id]) == {job.id: "failed:default"}
    arbiter.wait_for_workers(2)


def test_stop_execution(arbiter, queue, gate, connection):
    door = gate()
    job = queue().enqueue(jobs.sleep, 60, str(door))
    door.wait_until_reached()
    (execution,) = job.get_executions()
    send_stop_execution_command(connection, job.id, execution.id)
    wait_for(lambda: job.get_status() == "stopped", 5, "the job to be stopped")


def test_stop_job_reaches_into_c_code(arbiter, queue, gate, connection):
    """No Python handler runs there, so the worker is killed; the job is stopped, not retried."""
    door = gate()
    job = queue().enqueue(jobs.stuck_in_c, str(door), retry=Retry(3))
    pid = door.wait_until_reached()
    send_stop_job_command(connection, job.id)
    wait_for(lambda: job.get_status() == "stopped", 10, "the job to be stopped")
    assert assert_one_place_each(connection, [job.id]) == {job.id: "failed:default"}
    arbiter.wait_for(rf"pid={pid} ended: signal SIGKILL")
    assert len(arbiter.wait_for_workers(2)) == 2


def test_stop_job_with_a_very_long_id(arbiter, queue, gate, connection):
    door = gate()
    job = queue().enqueue(jobs.sleep, 60, str(door), job_id="x" * 400)
    door.wait_until_reached()
    connection.publish(
        f"rq:pubsub:{job.get_executions()[0].worker_name}",
        f'{{"command": "stop-job", "job_id": "{"x" * 300}"}}',
    )
    send_stop_job_command(connection, job.id)
    wait_for(lambda: job.get_status() == "stopped", 5, "the job to be stopped")


def test_kill_horse_fails_the_job(arbiter, queue, gate, connection):
    door = gate()
    job = queue().enqueue(jobs.sleep, 60, str(door))
    door.wait_until_reached()
    send_kill_horse_command(connection, job.get_executions()[0].worker_name)
    wait_for(lambda: job.get_status() == "failed", 5, "the job to fail")
    assert "terminated unexpectedly" in job.latest_result().exc_string


def test_shutdown_finishes_the_job_and_the_worker_is_replaced(arbiter, queue, gate, connection):
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    pid = door.wait_until_reached()
    send_shutdown_command(connection, job.get_executions()[0].worker_name)
    arbiter.wait_for("told by a command: shutdown")
    door.open()
    wait_for(lambda: job.get_status() == "finished", 5, "the job to end")
    arbiter.wait_for(rf"pid={pid} left: asked")
    arbiter.wait_for_workers(2)


def test_what_is_not_for_the_job_in_hand_is_ignored(arbiter, queue, gate, connection):
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    door.wait_until_reached()
    name = job.get_executions()[0].worker_name
    for payload in (
        '{"command": "stop-job", "job_id": "another"}',
        '{"command": "stop-execution", "execution_id": "another"}',
        '{"command": "dance"}',
        "not json",
        "[]",
    ):
        connection.publish(f"rq:pubsub:{name}", payload)
    connection.publish("rq:pubsub:somebody.else", '{"command": "shutdown"}')
    stays_true(lambda: job.get_status() == "started", 0.5, "the job goes on")
    door.open()
    wait_for(lambda: job.get_status() == "finished", 5, "the job to end")


def test_stop_job_with_a_forking_class(resqued, queue, gate, connection):
    arbiter = resqued("-n", 1, "-w", "rq.Worker", expect_errors="rq.worker|Traceback")
    arbiter.wait_for_workers(1)
    arbiter.wait_for_steward()
    door = gate()
    job = queue().enqueue(jobs.swallow, str(door))
    door.wait_until_reached()
    send_stop_job_command(connection, job.id)
    wait_for(lambda: job.get_status() == "stopped", 5, "the job to be stopped")
    after = queue().enqueue(jobs.noop)
    wait_for(lambda: after.get_status() == "finished", 5, "the next one")


def test_commands_after_the_steward_was_killed(arbiter, queue, gate, connection):
    door = gate()
    job = queue().enqueue(jobs.sleep, 60, str(door))
    door.wait_until_reached()
    old = arbiter.wait_for_steward().pid
    arbiter.signal("KILL", pid=old)
    arbiter.wait_for_steward(other_than=old)
    send_stop_job_command(connection, job.id)
    wait_for(lambda: job.get_status() == "stopped", 5, "the job to be stopped")


def test_commands_after_the_fork_server_was_killed(arbiter, queue, gate, connection):
    """Its worker is the arbiter's child now, and the steward one of another fork server."""
    arbiter.expect_errors = "fork server ended"
    door = gate()
    job = queue().enqueue(jobs.sleep, 60, str(door))
    door.wait_until_reached()
    old = arbiter.wait_for_steward().pid
    arbiter.signal("KILL", pid=arbiter.fork_servers()[0].pid)
    arbiter.wait_for_steward(other_than=old)
    send_stop_job_command(connection, job.id)
    wait_for(lambda: job.get_status() == "stopped", 5, "the job to be stopped")
