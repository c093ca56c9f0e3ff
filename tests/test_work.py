"""From the queue to the registries, through the whole tree: nothing is lost, nobody is left."""

from __future__ import annotations

import re
import signal
import subprocess

import pytest
from rq import Retry
from rq.job import Dependency

from harness import jobs, processes
from harness.command import BIN, environment, run
from harness.oracle import assert_one_place_each, places
from harness.waiting import stays_true, wait_for


def pids(arbiter):
    return {number: process.pid for number, process in arbiter.workers().items()}


# --- Ordinary days ---------------------------------------------------------------------------


def test_queues_are_served_in_order_by_their_share_of_the_workers(resqued, queue, gate):
    high, low, other = queue("high"), queue("low"), queue("aside")
    arbiter = resqued("-n", 3, "--queue", "high", "--queue", "low=1", "--queue", "*")
    ids = []
    for number in range(20):
        ids.append(low.enqueue(jobs.noop, job_id=f"low-{number}").id)
        ids.append(high.enqueue(jobs.noop, job_id=f"high-{number}").id)
        ids.append(other.enqueue(jobs.noop, job_id=f"aside-{number}").id)
    wait_for(lambda: len(arbiter.ledger.ended()) == 60, 20, "all jobs to be done")
    first = arbiter.wait_for_workers(3)[1].pid
    assert {e.pid for e in arbiter.ledger.entries() if e.job_id.startswith("low")} == {first}
    assert sorted(arbiter.ledger.ended()) == sorted(ids)


def test_a_burst_ends_when_all_is_done(resqued, connection, queue):
    ids = [queue().enqueue(jobs.sleep, 0.01).id for _ in range(40)]
    ids += [queue().enqueue(jobs.kill_self).id, queue().enqueue(jobs.fail).id]
    arbiter = resqued("-n", 3, "--burst", expect_errors="failed job|rq.worker|Traceback")
    assert arbiter.exit(20) == 0
    where = assert_one_place_each(connection, ids)
    assert list(where.values()) == ["finished:default"] * 40 + ["failed:default"] * 2


@pytest.mark.parametrize("workers", [1, 2])
def test_a_burst_runs_what_the_death_of_a_worker_has_queued(resqued, queue, workers):
    """A retry, and dependents that allow the failure; queued by a recovery, not by a worker."""
    retried = queue().enqueue(jobs.kill_self, retry=Retry(2))
    dead = queue().enqueue(jobs.kill_self)
    anyway = Dependency(jobs=[dead], allow_failure=True)
    dependents = [queue(name).enqueue(jobs.noop, depends_on=anyway) for name in ("default", "low")]
    arbiter = resqued("-n", workers, "--burst", "--queue", "default", "--queue", "low=1")
    assert arbiter.exit(30) == 0
    retried.refresh()
    assert retried.get_status() == "failed"
    assert retried.retries_left == 0
    assert [job.get_status(refresh=True) for job in dependents] == ["finished"] * 2


def test_a_burst_without_work_ends_at_once(resqued):
    assert resqued("-n", 2, "--burst").exit(15) == 0


def test_rq_info_shows_our_workers_as_any_others(resqued, valkey):
    arbiter = resqued("-n", 2, "--queue", "high", "--queue", "low", "--name", "web")
    arbiter.wait_for_workers(2)
    shown = subprocess.run(
        [BIN / "rq", "info", "-u", valkey.url, "--raw", "--only-workers"],
        env=environment(),
        cwd=arbiter.directory,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert re.search(r"web\.\d+\.\d+ .*idle", shown)
    assert "2 workers" in shown or shown.count("web.") == 2, shown


@pytest.mark.parametrize("worker_class", ["rq.Worker", "rq.SimpleWorker"])
def test_a_foreign_worker_class_runs_in_a_slot(resqued, connection, queue, gate, worker_class):
    arbiter = resqued("-n", 2, "-w", worker_class)
    arbiter.wait_for_workers(2)
    ids = [queue().enqueue(jobs.noop).id for _ in range(10)]
    wait_for(lambda: len(arbiter.ledger.ended()) == 10, 20, "all jobs to be done")
    there = gate()
    ids.append(queue().enqueue(jobs.wait_at, str(there)).id)
    horse = there.wait_until_reached()

    assert arbiter.stop("TERM", timeout=8) == 0
    assert not processes.alive(horse)
    where = assert_one_place_each(connection, ids)
    assert list(where.values()) == ["finished:default"] * 10 + ["queue:default"]


# --- Jobs that do harm -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        (jobs.segfault, []),
        (jobs.vanish, [0]),
        (jobs.vanish, [3]),
        (jobs.kill_self, [signal.SIGKILL]),
        (jobs.kill_self, [signal.SIGABRT]),
    ],
)
def test_a_job_that_ends_its_worker_fails_at_once(resqued, connection, queue, body, arguments):
    arbiter = resqued(
        "-n", 1, expect_errors="Segmentation|Fatal Python|Traceback|failed job|rq.worker|ended"
    )
    worker = arbiter.wait_for_workers(1)[1]
    job = queue().enqueue(body, *arguments)
    wait_for(lambda: not processes.alive(worker.pid), what="the worker to be gone")
    wait_for(lambda: job.is_failed, what="the job to be failed")
    assert "terminated unexpectedly" in job.latest_result().exc_string
    after = queue().enqueue(jobs.noop)
    wait_for(lambda: after.is_finished, what="the next job, by a successor")
    assert_one_place_each(connection, [job.id, after.id])


def test_a_job_with_retries_left_is_retried_when_its_worker_is_killed(resqued, queue, gate):
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    there = gate()
    job = queue().enqueue(jobs.wait_at, str(there), retry=Retry(1))
    arbiter.signal("KILL", pid=there.wait_until_reached())
    there.open()
    wait_for(lambda: job.is_finished, what="the second attempt")
    assert arbiter.ledger.started(job.id) == [job.id] * 2
    assert arbiter.ledger.ended(job.id) == [job.id]


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        (jobs.leave, []),
        (jobs.fork, [0.5]),
        (jobs.fork_and_return, []),
        (jobs.daemonize, [0.5]),
        (jobs.leave_thread, [30]),
        (jobs.shout, [2]),
        (jobs.change_handlers, []),
        (jobs.close_everything, []),
        (jobs.hog, [100]),
    ],
)
def test_a_job_with_bad_manners_harms_nobody_after_it(resqued, connection, queue, body, arguments):
    arbiter = resqued("-n", 1, expect_errors="failed job|rq.worker|Traceback")
    arbiter.wait_for_workers(1)
    job = queue().enqueue(body, *arguments)
    after = queue().enqueue(jobs.noop)
    wait_for(lambda: after.is_finished, 15, "the next job")
    place = assert_one_place_each(connection, [job.id, after.id])[job.id]
    assert place == ("failed:default" if body is jobs.leave else "finished:default")
    assert arbiter.ledger.ended(after.id) == [after.id]


def test_killing_the_parent_takes_nobody_else_down(resqued, connection, queue, gate):
    arbiter = resqued("-n", 2, expect_errors="fork server")
    arbiter.wait_for_workers(2)
    there = gate()
    long = queue().enqueue(jobs.wait_at, str(there))
    there.wait_until_reached()
    killer = queue().enqueue(jobs.kill_parent)
    wait_for(lambda: killer.is_finished, what="the fork server's murder")
    there.open()
    wait_for(lambda: long.is_finished, what="the other job")
    after = queue().enqueue(jobs.noop)
    wait_for(lambda: after.is_finished, 20, "a job of the next fork server's workers")
    assert_one_place_each(connection, [long.id, killer.id, after.id])


# --- Workers that come to grief --------------------------------------------------------------


def test_one_broken_slot_does_not_hold_up_the_others(resqued, queue):
    arbiter = resqued(
        "-n",
        3,
        probe=True,
        expect_errors="worker=2|broken|Traceback",
        config="""
            def after_fork(worker):
                if worker.number == 2:
                    raise RuntimeError("broken")
        """,
    )
    calls = arbiter.wait_for_call("worker_exited", times=3)
    assert {call.arguments["worker"]["number"] for call in calls} == {2}
    assert [call.arguments["exit"]["failures_in_a_row"] for call in calls] == [1, 2, 3]
    assert set(arbiter.workers()) >= {1, 3}
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.is_finished, what="a job done by the others")
    before = len(arbiter.calls("worker_exited"))
    stays_true(lambda: len(arbiter.calls("worker_exited")) <= before + 1, 1, "it backs off")


def test_an_arbiter_that_was_stopped_judges_nobody_when_it_goes_on(resqued, queue, gate):
    arbiter = resqued("-n", 2, "--kill-after", 1)
    before = pids_of(arbiter, 2)
    there = gate()
    job = queue().enqueue(jobs.wait_at, str(there), job_timeout=60)
    there.wait_until_reached()
    arbiter.signal("STOP")
    try:
        stays_true(lambda: pids(arbiter) == before, 4, "they work on")
    finally:
        arbiter.signal("CONT")
    stays_true(lambda: pids(arbiter) == before, 1.5, "nobody is judged for its silence")
    there.open()
    wait_for(lambda: job.is_finished, what="the job")


def pids_of(arbiter, count):
    arbiter.wait_for_workers(count)
    return pids(arbiter)


# --- Redis that comes and goes ---------------------------------------------------------------


def test_redis_down_at_the_start_is_waited_for(resqued, valkey, queue):
    valkey.stop()
    arbiter = resqued("-n", 2, expect_errors="redis|Redis|onnect")
    wait_for(lambda: len(arbiter.workers()) == 2, what="workers that wait")
    stays_true(lambda: arbiter.running, 1, "it is not an exit")
    valkey.start()
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.is_finished, 20, "a job, once Redis is there")


def test_redis_restarts_under_load_and_nothing_is_lost(resqued, valkey, connection, queue):
    arbiter = resqued("-n", 3, expect_errors="redis|Redis|onnect|written")
    arbiter.wait_for_workers(3)
    ids = [queue(name).enqueue(jobs.sleep, 0.03).id for name in ["default"] * 100]
    wait_for(lambda: len(arbiter.ledger.ended()) > 10, what="some jobs to be done")
    valkey.restart()
    wait_for(
        lambda: set().union(*places(connection, ids).values()) == {"finished:default"},
        30,
        "all jobs to be finished",
    )
    assert sorted(arbiter.ledger.ended()) == sorted(ids), "and each has run once"


def test_redis_away_at_the_end_is_exit_75_that_names_the_job(
    resqued, valkey, connection, queue, gate
):
    arbiter = resqued("-n", 1, expect_errors="without having recovered")
    arbiter.wait_for_workers(1)
    there = gate()
    job = queue().enqueue(jobs.wait_at, str(there), job_timeout=60)
    there.wait_until_reached()
    valkey.stop()
    assert arbiter.stop("TERM", timeout=15) == 75
    assert re.search(f"ERROR .*{job.id}", arbiter.log())
    valkey.start()
    # where RQ finds it when its execution has expired
    assert assert_one_place_each(connection, [job.id]) == {job.id: "wip:default"}


def test_no_password_is_to_be_seen_anywhere(resqued, valkey, connection, queue):
    connection.acl_setuser(
        "app", enabled=True, passwords=["+canary-7x"], keys="*", channels="*", categories=["+@all"]
    )
    url = valkey.url.replace("unix://", "unix://app:canary-7x@")
    arbiter = resqued("-n", 2, "-v", "--redis", url, expect_errors="AuthenticationError|password")
    arbiter.wait_for_workers(2)
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.is_finished, what="a job to be done")
    arbiter.signal("HUP")
    arbiter.wait_for("gen=2 in service")
    connection.acl_setuser("app", reset_passwords=True, passwords=["+another"], enabled=True)
    connection.client_kill_filter(_type="normal", skipme=True)
    stays_true(lambda: arbiter.running, 1, "a refused password is not an exit")

    seen = [arbiter.log(), str(arbiter.status()), arbiter.tree()]
    _, plan, complaint = run("--check", "-v", "--redis", url, cwd=arbiter.directory)
    assert "canary-7x" not in "".join([*seen, plan, complaint])


# --- The log ---------------------------------------------------------------------------------


def test_a_full_disk_stops_the_log_and_nothing_else(resqued, queue):
    arbiter = resqued("-n", 1, "--log-file", "/dev/full")
    arbiter.wait_for_workers(1)
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.is_finished, what="a job to be done")


def test_a_log_of_a_thousand_jobs_has_whole_lines(resqued, queue):
    arbiter = resqued("-n", 4, "--burst")
    for _ in range(250):
        queue().enqueue(jobs.noop)
    assert arbiter.exit(30) == 0
    line = re.compile(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [A-Z]+ +(arbiter|worker=|forkserver|steward=)"
    )
    strange = [each for each in arbiter.log().splitlines() if not line.match(each)]
    assert strange == []


def test_a_second_start_on_the_same_pid_file_leaves_the_first_alone(resqued):
    first = resqued("-D")
    before = pids_of(first, 1)
    status, _, complaint = run("--pid", first.pid_file, cwd=first.directory)
    assert status == 75
    assert str(first.pid) in complaint
    assert pids(first) == before
    assert first.pid_file.read_text() == f"{first.pid}\n"
