"""`resquedctl queue`: nothing is taken from a paused queue, by any worker of resqued."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest
from rq import Queue

from harness import jobs
from harness.command import BIN, environment
from harness.waiting import scaled, wait_for
from resqued.broker.pauses import PAUSED
from resqued.scoreboard import Scoreboard
from resqued.status import arbiters


def ctl(valkey, *words: object) -> subprocess.CompletedProcess[str]:
    """`resquedctl` on a machine without arbiters: by the URL alone."""
    return subprocess.run(
        [str(BIN / "resquedctl"), *map(str, words), "--url", valkey.url],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=scaled(30),
        stdin=subprocess.DEVNULL,
    )


def is_told(arbiter, *names: str) -> bool:
    """Whether the arbiter's steward has told its workers that these are paused."""
    for fd in arbiters.scoreboards(arbiter.pid):
        board = Scoreboard(os.dup(fd), writable=False)
        try:
            return board.paused.read().get("queues") == list(names)
        finally:
            board.close()
    return False


def done(job) -> bool:
    return job.get_status() == "finished"


def test_a_paused_queue_waits_and_goes_on_at_once(resqued, valkey, queue):
    arbiter = resqued("-n", 4, "--queue", "a", "--queue", "b")
    arbiter.wait_for_workers(4)
    paused = arbiter.control("queue", "pause", "a")
    assert paused.returncode == 0
    assert paused.stdout == "paused a: 1 arbiter obeys within a second\n"
    wait_for(lambda: is_told(arbiter, "a"), 5, "the pause to be told")
    waiting = [queue("a").enqueue(jobs.nothing) for _ in range(20)]
    others = [queue("b").enqueue(jobs.nothing) for _ in range(20)]
    wait_for(lambda: all(map(done, others)), 5, "the jobs of b")
    assert queue("a").count == 20
    again = arbiter.control("queue", "pause", "a")
    assert again.stdout.startswith("a was paused already since ")
    resumed = arbiter.control("queue", "resume", "a")
    assert resumed.stdout == "resumed a\n"
    wait_for(lambda: all(map(done, waiting)), 5, "the jobs of a")
    assert arbiter.control("queue", "resume", "a").stdout == "a was not paused\n"


def test_after_a_resume_a_push_is_heard_at_once(resqued, queue):
    """The worker that hears of pushes for all did not watch the paused queue."""
    arbiter = resqued("-n", 3, "--queue", "a", "--queue", "b")
    arbiter.wait_for_workers(3)
    arbiter.control("queue", "pause", "a")
    wait_for(lambda: is_told(arbiter, "a"), 5, "the pause to be told")
    job = queue("b").enqueue(jobs.nothing)  # now one waits without a
    wait_for(lambda: done(job), 5, "the job of b")
    arbiter.control("queue", "resume", "a")
    wait_for(lambda: is_told(arbiter), 5, "the resumption to be told")
    steward = arbiter.wait_for_steward()
    arbiter.signal("STOP", pid=steward.pid)  # it would wake them too
    try:
        for _ in range(3):
            job = queue("a").enqueue(jobs.nothing)
            wait_for(lambda job=job: done(job), 2, "the job of a")
    finally:
        arbiter.signal("CONT", pid=steward.pid)


def test_a_job_that_runs_is_finished_and_no_other_is_taken(resqued, queue, gate):
    arbiter = resqued("-n", 1, "--queue", "a")
    arbiter.wait_for_workers(1)
    running = gate()
    first = queue("a").enqueue(jobs.wait_at, str(running))
    second = queue("a").enqueue(jobs.nothing)
    running.wait_until_reached()
    arbiter.control("queue", "pause", "a")
    wait_for(lambda: is_told(arbiter, "a"), 5, "the pause to be told")
    running.open()
    wait_for(lambda: done(first), 5, "the first job")
    arbiter.wait_for_workers(1)
    assert second.get_status() == "queued"
    arbiter.control("queue", "resume", "a")
    wait_for(lambda: done(second), 5, "the second job")


def test_an_arbiter_that_starts_obeys_from_the_first_job_on(resqued, valkey, connection, queue):
    assert ctl(valkey, "queue", "pause", "a").stdout == (
        "paused a: no arbiter runs now; those that start will obey\n"
    )
    for _ in range(50):
        queue("a").enqueue(jobs.nothing)
    other = queue("b").enqueue(jobs.nothing)
    arbiter = resqued("-n", 2, "--queue", "a", "--queue", "b")
    wait_for(lambda: done(other), 20, "the job of b")
    arbiter.wait_for(r"paused queues=a: nothing is taken from them")
    assert queue("a").count == 50


def test_a_burst_takes_a_paused_queue_for_empty(resqued, valkey, queue):
    ctl(valkey, "queue", "pause", "a")
    queue("a").enqueue(jobs.nothing)
    other = queue("b").enqueue(jobs.nothing)
    arbiter = resqued("-n", 2, "--queue", "a", "--queue", "b", "--burst")
    assert arbiter.exit(20) == 0
    assert done(other)
    assert queue("a").count == 1


def test_all_that_the_star_stands_for_can_be_paused(resqued, queue):
    arbiter = resqued("-n", 2, "--queue", "*")
    arbiter.wait_for_workers(2)
    first = queue("late").enqueue(jobs.nothing)
    wait_for(lambda: done(first), 5, "the first job")
    arbiter.control("queue", "pause", "late")
    wait_for(lambda: is_told(arbiter, "late"), 5, "the pause to be told")
    job = queue("late").enqueue(jobs.nothing)
    other = queue("other").enqueue(jobs.nothing)
    wait_for(lambda: done(other), 5, "the other queue's job")
    assert job.get_status() == "queued"
    arbiter.control("queue", "resume", "late")
    wait_for(lambda: done(job), 5, "the paused queue's job")


def test_a_pause_outlives_a_steward_a_reload_and_a_reexec(resqued, queue):
    arbiter = resqued("-n", 2, "--queue", "a", "--queue", "b")
    arbiter.wait_for_workers(2)
    arbiter.control("queue", "pause", "a")
    wait_for(lambda: is_told(arbiter, "a"), 5, "the pause to be told")
    steward = arbiter.wait_for_steward()
    arbiter.signal("KILL", pid=steward.pid)
    queue("a").enqueue(jobs.nothing)
    arbiter.wait_for_steward(other_than=steward.pid)
    assert arbiter.control("reload", "--wait").returncode == 0
    assert arbiter.control("reexec", "--wait").returncode == 0
    job = queue("b").enqueue(jobs.nothing)
    wait_for(lambda: done(job), 10, "the job of b")
    assert queue("a").count == 1
    assert is_told(arbiter, "a")
    assert arbiter.log().count("paused queues=a") == 1


def test_a_worker_without_an_arbiter_obeys_too(valkey, queue, tmp_path, no_process_left):
    ctl(valkey, "queue", "pause", "a")
    job = queue("a").enqueue(jobs.nothing)
    other = queue("b").enqueue(jobs.nothing)
    worker = subprocess.Popen(
        [
            *(str(BIN / "rq"), "worker", "-w", "resqued.worker.rq_worker.ResquedWorker"),
            *("--url", valkey.url, "a", "b"),
        ],
        env=environment(RESQUED_LEDGER=str(tmp_path / "ledger")),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: done(other), 20, "the job of b")
        assert job.get_status() == "queued"
        ctl(valkey, "queue", "resume", "a")
        wait_for(lambda: done(job), 10, "the job of a")
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(scaled(20))


def test_workers_that_do_not_obey_are_named(resqued, valkey, connection):
    arbiter = resqued("-n", 2, "--queue", "a")
    arbiter.wait_for_workers(2)
    stock = subprocess.Popen(
        [str(BIN / "rq"), "worker", "--url", valkey.url, "--name", "stock-1", "a"],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: connection.exists("rq:worker:stock-1"), 20, "the stock worker")
        wait_for(lambda: "2/2" in ctl(valkey, "fleet").stdout, 10, "the arbiter's entry")
        paused = ctl(valkey, "queue", "pause", "a")
        assert paused.stdout == "paused a: 1 arbiter obeys within a second\n"
        assert paused.stderr.startswith("RQ's own workers do not obey: stock-1 on ")
        assert len(paused.stderr.splitlines()) == 1
    finally:
        stock.send_signal(signal.SIGTERM)
        stock.wait(scaled(20))


def test_a_name_that_nobody_knows_gets_a_hint(valkey, queue):
    queue("mails").enqueue(jobs.nothing)
    paused = ctl(valkey, "queue", "pause", "mail")
    assert paused.returncode == 0
    assert paused.stdout.startswith("paused mail: ")
    assert "nothing waits, and no worker serves it; did you mean mails?" in paused.stderr
    listed = ctl(valkey, "queue", "list")
    lines = listed.stdout.splitlines()
    assert lines[0].split() == ["QUEUE", "WAITING", "STARTED", "WORKERS", "LIMIT", "PAUSED"]
    assert lines[1].split()[:6] == ["mail", "0", "0", "0", "-", "paused"]
    assert lines[2].split() == ["mails", "1", "0", "0", "-", "-"]
    plain = json.loads(ctl(valkey, "queue", "list", "mail", "--json").stdout)["queues"]
    assert [state["name"] for state in plain] == ["mail"]
    assert "@" in plain[0]["pause"]["by"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["queue", "pause"], "Missing argument"),
        (["queue", "pause", "a,b"], "has a comma in its name"),
        (["queue", "pause", "x" * 300], "at most 255"),
        (["queue", "halt", "a"], "No such command"),
    ],
)
def test_a_wrong_command_line_is_refused(valkey, words, reason):
    refused = ctl(valkey, *words)
    assert refused.returncode == 64
    assert reason in refused.stderr


def test_no_redis_and_a_wrong_url_are_one_line(valkey):
    away = subprocess.run(
        [str(BIN / "resquedctl"), "queue", "list", "--url", "redis://:secret@127.0.0.1:1/0"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=scaled(30),
    )
    assert away.returncode == 69
    assert "secret" not in away.stderr
    assert len(away.stderr.splitlines()) == 1
    wrong = subprocess.run(
        [str(BIN / "resquedctl"), "queue", "list", "--url", "http://localhost"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=scaled(30),
    )
    assert wrong.returncode == 64
    assert "--url" in wrong.stderr


def test_what_others_have_written_there_pauses_or_is_set_aside(resqued, connection, queue):
    connection.hset(PAUSED, "a", "by hand")
    connection.hset(PAUSED, b"\xff", "{}")
    arbiter = resqued("-n", 1, "--queue", "a", "--queue", "b", expect_errors="set-aside")
    job = queue("b").enqueue(jobs.nothing)
    queue("a").enqueue(jobs.nothing)
    wait_for(lambda: done(job), 20, "the job of b")
    wait_for(lambda: is_told(arbiter, "a"), 5, "the pause to be told")
    assert queue("a").count == 1
    connection.set(PAUSED, "no hash")
    wait_for(lambda: not Queue("a", connection=connection).count, 10, "a to be open again")
