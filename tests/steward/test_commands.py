"""RQ's commands reach the workers of an arbiter through its steward, as they reach RQ's own."""

from __future__ import annotations

from itertools import pairwise

import pytest
from rq import Callback, Retry
from rq.command import (
    send_kill_horse_command,
    send_shutdown_command,
    send_stop_execution_command,
    send_stop_job_command,
)

from harness import jobs
from harness.oracle import assert_one_place_each
from harness.waiting import stays_true, wait_for
from isolation import tasks


@pytest.fixture
def arbiter(resqued):
    """Two workers and a steward that has said hello."""
    arbiter = resqued("-n", 2, expect_errors="Job stopped|stack|failed job|rq.worker|Traceback")
    arbiter.wait_for_workers(2)
    arbiter.wait_for_steward()
    return arbiter


def test_stop_job(arbiter, queue, gate, connection):
    door = gate()
    job = queue().enqueue(jobs.sleep, 60, str(door), retry=Retry(3))
    pid = door.wait_until_reached()
    send_stop_job_command(connection, job.id)
    wait_for(lambda: job.get_status() == "stopped", what="the job to be stopped")
    arbiter.wait_for(rf"pid={pid} exited \(after its job was cut\)")  # nobody had to kill it
    assert assert_one_place_each(connection, [job.id]) == {job.id: "failed:default"}
    arbiter.wait_for_workers(2)


def test_stop_execution(arbiter, queue, gate, connection):
    door = gate()
    job = queue().enqueue(jobs.sleep, 60, str(door))
    door.wait_until_reached()
    (execution,) = job.get_executions()
    send_stop_execution_command(connection, job.id, execution.id)
    wait_for(lambda: job.get_status() == "stopped", what="the job to be stopped")


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
    wait_for(lambda: job.get_status() == "stopped", what="the job to be stopped")


def test_kill_horse_fails_the_job(arbiter, queue, gate, connection):
    door = gate()
    job = queue().enqueue(jobs.sleep, 60, str(door))
    door.wait_until_reached()
    send_kill_horse_command(connection, job.get_executions()[0].worker_name)
    wait_for(lambda: job.get_status() == "failed", what="the job to fail")
    assert "terminated unexpectedly" in job.latest_result().exc_string


def test_shutdown_finishes_the_job_and_the_worker_is_replaced(arbiter, queue, gate, connection):
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    pid = door.wait_until_reached()
    send_shutdown_command(connection, job.get_executions()[0].worker_name)
    arbiter.wait_for("received a command: shutdown")
    door.open()
    wait_for(lambda: job.get_status() == "finished", what="the job to end")
    arbiter.wait_for(rf"pid={pid} exited \(on request\)")
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
    wait_for(lambda: job.get_status() == "finished", what="the job to end")


def test_stop_job_with_a_forking_class(resqued, queue, gate, connection):
    arbiter = resqued("-n", 1, "-w", "rq.Worker", expect_errors="rq.worker|Traceback")
    arbiter.wait_for_workers(1)
    arbiter.wait_for_steward()
    door = gate()
    job = queue().enqueue(jobs.swallow, str(door))
    door.wait_until_reached()
    send_stop_job_command(connection, job.id)
    wait_for(lambda: job.get_status() == "stopped", what="the job to be stopped")
    after = queue().enqueue(jobs.noop)
    wait_for(lambda: after.get_status() == "finished", what="the next one")


def test_commands_after_the_steward_was_killed(arbiter, queue, gate, connection):
    door = gate()
    job = queue().enqueue(jobs.sleep, 60, str(door))
    door.wait_until_reached()
    old = arbiter.wait_for_steward().pid
    arbiter.signal("KILL", pid=old)
    arbiter.wait_for_steward(other_than=old)
    send_stop_job_command(connection, job.id)
    wait_for(lambda: job.get_status() == "stopped", what="the job to be stopped")


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
    wait_for(lambda: job.get_status() == "stopped", what="the job to be stopped")


# Where a worker can be with a job that is started in Redis, by how it takes it.
STARTED = [
    *((point, "auto") for point in ("begun", "taken", "sent", "prepared", "running")),
    *((point, "off") for point in ("sent", "prepared", "running")),
]

TELL = {
    "stop-job": (lambda connection, job: send_stop_job_command(connection, job.id), "stop"),
    "stop-execution": (
        lambda connection, job: send_stop_execution_command(
            connection, job.id, job.get_executions()[0].id
        ),
        "stop",
    ),
    "kill-horse": (
        lambda connection, job: send_kill_horse_command(
            connection, job.get_executions()[0].worker_name
        ),
        "kill",
    ),
    "shutdown": (
        lambda connection, job: send_shutdown_command(
            connection, job.get_executions()[0].worker_name
        ),
        "shutdown",
    ),
}
OUTCOME = {"stop": "stopped", "kill": "failed", "shutdown": "finished"}


@pytest.fixture
def paused(resqued, gate):
    """`paused(point, *options)`: a worker that stops there; the arbiter, and the worker's door."""

    def paused(point, *options):
        door = gate()
        arbiter = resqued(
            *("-n", 1, "-w", "worker.paused.PausedWorker", *options),
            expect_errors="failed job|rq.worker|Traceback",
            RESQUED_PAUSE=f"{point} {door}",
        )
        arbiter.wait_for_steward()
        door.wait_until_reached()
        return arbiter, door

    return paused


@pytest.mark.parametrize("command", TELL)
@pytest.mark.parametrize(("point", "fast_path"), STARTED)
def test_what_is_told_from_the_start_on_is_heard(
    paused, queue, connection, point, fast_path, command
):
    """The job is started in Redis; its worker does not know it yet, or has not begun it yet."""
    job = queue().enqueue(jobs.noop)
    arbiter, door = paused(point, "--fast-path", fast_path)
    assert job.get_status() == "started"
    tell, word = TELL[command]
    tell(connection, job)
    arbiter.wait_for(f"received a command: {word}")
    door.open()
    wait_for(lambda: job.get_status() == OUTCOME[word], what=f"the job to be {OUTCOME[word]}")
    assert bool(arbiter.ledger.started(job.id)) == (word == "shutdown")
    if word == "shutdown":
        arbiter.wait_for(r"exited \(on request\): 1 jobs")


@pytest.mark.parametrize("command", TELL)
@pytest.mark.parametrize("point", ["begun", "taken", "sent"])
def test_what_is_told_before_there_is_a_child_is_heard(paused, queue, connection, point, command):
    job = queue().enqueue(jobs.noop)
    arbiter, door = paused(point, "--isolation", "fork")
    assert job.get_status() == "started"
    tell, word = TELL[command]
    tell(connection, job)
    arbiter.wait_for(f"received a command: {word}")
    door.open()
    wait_for(lambda: job.get_status() == OUTCOME[word], what=f"the job to be {OUTCOME[word]}")
    assert "killed: its job did not leave" not in arbiter.log()


def test_the_stopped_callback_of_a_job_that_had_no_child_yet_has_one(paused, queue, connection):
    job = queue().enqueue(jobs.noop, on_stopped=Callback(tasks.on_stopped))
    arbiter, door = paused("begun", "--isolation", "fork")
    worker = arbiter.wait_for_workers(1)[1].pid
    send_stop_job_command(connection, job.id)
    arbiter.wait_for("received a command: stop")
    door.open()
    wait_for(lambda: job.get_status() == "stopped", what="the job to be stopped")
    (said,) = connection.lrange("told", 0, -1)
    assert int(said.split()[-1]) != worker
    assert not arbiter.ledger.started(job.id)
    following = queue().enqueue(tasks.pid)
    wait_for(lambda: following.get_status() == "finished", what="the next job to be finished")
    assert arbiter.wait_for_workers(1)[1].pid == worker


@pytest.mark.parametrize("command", TELL)
def test_what_is_told_while_the_last_outcome_is_on_its_way_is_for_the_next_job(
    paused, queue, connection, command
):
    """One step has written an outcome and started the next job; the worker does not know it."""
    each = [queue().enqueue(jobs.noop) for _ in range(20)]  # the first have no such step
    arbiter, door = paused("ahead")
    last, job = next(pair for pair in pairwise(each) if pair[1].get_status() == "started")
    tell, word = TELL[command]
    tell(connection, job)
    arbiter.wait_for(f"received a command: {word}")
    door.open()
    wait_for(lambda: job.get_status() == OUTCOME[word], what=f"the job to be {OUTCOME[word]}")
    assert last.get_status() == "finished"


def test_a_stop_for_a_job_that_has_just_ended_takes_nothing_from_the_next(
    paused, queue, connection
):
    """Neither does it stop that, nor is a stop for that forgotten."""
    each = [queue().enqueue(jobs.noop) for _ in range(20)]
    arbiter, door = paused("ahead")
    last, job = next(pair for pair in pairwise(each) if pair[1].get_status() == "started")
    name = job.get_executions()[0].worker_name
    send_stop_job_command(connection, job.id)
    connection.publish(f"rq:pubsub:{name}", f'{{"command": "stop-job", "job_id": "{last.id}"}}')
    arbiter.wait_for("received a command: stop")
    door.open()
    wait_for(lambda: job.get_status() == "stopped", what="the job to be stopped")
    assert last.get_status() == "finished"
    assert len(arbiter.wait_for("received a command")) == 1


@pytest.mark.parametrize("command", ["stop-execution", "kill-horse"])
def test_what_is_told_before_there_is_a_horse_ends_it(resqued, queue, gate, connection, command):
    door, inside = gate(), gate()
    job = queue().enqueue(jobs.wait_at, str(inside))
    arbiter = resqued(
        *("-n", 1, "-w", "worker.paused.PausedForker"),
        expect_errors="failed job|rq.worker|Traceback",
        RESQUED_PAUSE=f"unforked {door}",
    )
    arbiter.wait_for_steward()
    door.wait_until_reached()
    tell, word = TELL[command]
    tell(connection, job)
    arbiter.wait_for(f"received a command: {word}")
    door.open()
    wait_for(lambda: job.get_status() == OUTCOME[word], what=f"the job to be {OUTCOME[word]}")
    assert "killed: its job did not leave" not in arbiter.log(), "its horse alone is"
