"""Processes that stand still, multiply, or cannot be had."""

from __future__ import annotations

import itertools
import os
import re
import signal

import psutil
import pytest

from faults.load import are_finished, pids
from harness import jobs, processes
from harness.oracle import assert_one_place_each
from harness.waiting import stays_true, wait_for
from resqued.channel import Channel
from resqued.messages import WorkerForked
from resqued.scoreboard import Record, RecordWriter, Scoreboard

QUICK = ("--loop-timeout", 2)
"""Workers turn four times as often, so that the test need not wait for long."""


def stop_and_go_on(victims, arbiter):
    for process in victims:
        arbiter.signal("STOP", pid=process.pid)
    try:
        yield
    finally:
        for process in victims:
            arbiter.signal("CONT", pid=process.pid)


# --- Standing still --------------------------------------------------------------------------


def test_an_idle_worker_that_stands_still_is_replaced(resqued, queue, connection):
    arbiter = resqued("-n", 2, *QUICK)
    before = {n: each.pid for n, each in arbiter.wait_for_workers(2).items()}
    arbiter.signal("STOP", pid=before[1])
    arbiter.wait_for(r"worker=1 .*stuck in phase idle")
    arbiter.wait_for(r"worker=1 .*killed: stuck in phase idle")
    wait_for(lambda: arbiter.workers().get(1, None) not in (None, before[1]), what="a successor")
    after = {n: each.pid for n, each in arbiter.wait_for_workers(2).items()}
    assert after[1] != before[1]
    assert after[2] == before[2]
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: are_finished(connection, [job.id]), what="a job to be done")


def test_a_busy_worker_that_stands_still_is_replaced_and_its_job_fails(
    resqued, queue, connection, gate
):
    arbiter = resqued("-n", 1, "--kill-after", 0.5)
    arbiter.wait_for_workers(1)
    there = gate()
    job = queue().enqueue(jobs.wait_at, str(there), job_timeout=1)
    arbiter.signal("STOP", pid=there.wait_until_reached())
    wait_for(lambda: job.is_failed, 15, "the job to be failed")
    assert "stuck in job=" in job.latest_result().exc_string
    assert assert_one_place_each(connection, [job.id]) == {job.id: "failed:default"}
    arbiter.wait_for_workers(1)


def test_a_worker_that_stands_still_for_a_moment_is_left_alone(resqued, queue, connection, gate):
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    there = gate()
    job = queue().enqueue(jobs.wait_at, str(there))
    pid = there.wait_until_reached()
    arbiter.signal("STOP", pid=pid)
    stays_true(lambda: processes.alive(pid), 1, "nobody minds")
    arbiter.signal("CONT", pid=pid)
    there.open()
    wait_for(lambda: are_finished(connection, [job.id]), what="the job")
    assert arbiter.wait_for_workers(1)[1].pid == pid


def test_what_stands_still_is_killed_at_a_stop_and_its_job_put_back(resqued, held, connection):
    arbiter = resqued("-n", 2, "--queue", "high")
    workers = arbiter.wait_for_workers(2)
    job, _ = held()
    for worker in workers.values():
        arbiter.signal("STOP", pid=worker.pid)
    assert arbiter.stop("TERM", timeout=8) == 0
    assert assert_one_place_each(connection, [job.id]) == {job.id: "queue:high"}


@pytest.mark.parametrize("signame", ["TERM", "TTIN"])
def test_a_fork_server_that_stands_still_is_killed_and_replaced(resqued, held, connection, signame):
    arbiter = resqued(
        "-n",
        1,
        "--queue",
        "high",
        "--boot-timeout",
        5,
        expect_errors="fork server|killed|without having recovered",
    )
    arbiter.wait_for_workers(1)
    job, there = held()
    (server,) = arbiter.fork_servers()
    arbiter.signal("STOP", pid=server.pid)
    if signame == "TERM":
        code = arbiter.stop("TERM", timeout=15)
        # 75: no other came up in time to put it back, or to say that it has
        places = {0: ["queue:high"], 75: ["wip:high", "queue:high"]}[code]
        assert assert_one_place_each(connection, [job.id])[job.id] in places
        return
    arbiter.signal(signame)
    wait_for(lambda: not processes.alive(server.pid), 15, "it to be killed")
    there.open()
    wait_for(lambda: are_finished(connection, [job.id]), what="the job in hand")
    arbiter.wait_for_workers(2)


@pytest.mark.parametrize("who", ["arbiter", "everybody"])
def test_after_a_suspend_nobody_is_judged_for_its_silence(resqued, held, connection, who):
    """Deadlines pass meanwhile, in everybody's case those of all idle workers."""
    arbiter = resqued("-n", 3, "--queue", "high", *QUICK)
    arbiter.wait_for_workers(3)
    job, there = held()
    before = pids(arbiter)
    victims = [psutil.Process(arbiter.pid)]
    if who == "everybody":
        victims += processes.descendants(arbiter.pid)
    for _ in stop_and_go_on(victims, arbiter):
        stays_true(lambda: True, 4, "time passes")
    stays_true(lambda: pids(arbiter) == before, 1.5, "nobody is judged")
    there.open()
    wait_for(lambda: are_finished(connection, [job.id]), what="the job")
    assert pids(arbiter) == before
    assert "stuck" not in arbiter.log()


# --- Many, and none to be had ----------------------------------------------------------------


def test_forty_respawns_leave_nothing_behind(resqued, queue, connection):
    arbiter = resqued("-n", 2, "--max-jobs", 1, "-q")
    arbiter.wait_for_workers(2)

    def held():
        parents = [psutil.Process(arbiter.pid), *arbiter.fork_servers()]
        return [
            ([re.sub(r"\d+", "N", name) for name in processes.open_files(each.pid)],
             each.num_threads(), len(each.children()))
            for each in parents
        ]  # fmt: skip

    before = held()
    ids = [queue().enqueue(jobs.noop).id for _ in range(40)]
    wait_for(lambda: are_finished(connection, ids), 30, "all jobs to be finished")
    arbiter.wait_for_workers(2)
    assert len(arbiter.ledger.pids()) == 40
    wait_for(lambda: held() == before, what="the same descriptors, threads and children")
    wait_for(lambda: connection.scard("rq:workers") == 2, what="two registered workers")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be another user for a while")
def test_no_process_to_be_had_is_waited_for(resqued, queue, connection):
    """For a user who has used up what he may have; root may have any number."""
    arbiter = resqued(
        "-n",
        2,
        expect_errors="cannot be forked",
        config="""
            import os, pathlib, resource

            def before_fork(worker):
                os.setresuid(0, 0, 0)
                poor = pathlib.Path("poor").exists()
                hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
                resource.setrlimit(resource.RLIMIT_NPROC, (1 if poor else hard, hard))
                if poor:
                    os.setresuid(64321, 64321, 0)
        """,
    )
    before = {n: each.pid for n, each in arbiter.wait_for_workers(2).items()}
    (arbiter.directory / "poor").touch()
    arbiter.signal("KILL", pid=before[1])
    arbiter.wait_for("worker=1 cannot be forked: Resource temporarily unavailable; again in 1 s")
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: are_finished(connection, [job.id]), what="a job done by the other")
    assert arbiter.workers()[2].pid == before[2]
    (arbiter.directory / "poor").unlink()
    arbiter.wait_for_workers(2)


def test_a_hook_that_forks_does_not_leave_two_of_us(resqued, queue, connection):
    arbiter = resqued(
        "-n",
        2,
        config="""
            import os, pathlib

            def _fork(name):
                if not pathlib.Path(name).exists():
                    pathlib.Path(name).touch()
                    os.fork()

            def tick(arbiter):
                _fork("tick")

            def before_fork(worker):
                _fork("before_fork")
        """,
    )
    arbiter.wait_for_workers(2)
    wait_for((arbiter.directory / "tick").exists, what="a tick")
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: are_finished(connection, [job.id]), what="a job to be done")
    wait_for(lambda: len(processes.descendants(arbiter.pid)) == 4, what="only ours to be left")


def test_a_hook_that_takes_the_signals_gives_them_back(resqued):
    arbiter = resqued(
        "-n",
        1,
        config="""
            import signal

            def arbiter_ready(arbiter):
                for signum in (signal.SIGTERM, signal.SIGHUP):
                    signal.signal(signum, signal.SIG_IGN)
                signal.set_wakeup_fd(-1)

            def before_fork(worker):
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        """,
    )
    arbiter.wait_for_workers(1)
    arbiter.signal("KILL", pid=arbiter.workers()[1].pid)
    arbiter.wait_for("ended: signal SIGKILL")
    arbiter.wait_for_workers(1)
    arbiter.signal("HUP")
    changed = "hook arbiter_ready: plugin 'resqued.conf.py' has changed the handlers of"
    arbiter.wait_for(f"{changed} SIGHUP, SIGTERM; undone")
    arbiter.wait_for("gen=1 retired")  # a signal that comes while the hook ignores it is lost
    assert arbiter.stop("TERM") == 0


# --- Between processes -----------------------------------------------------------------------


def test_a_record_that_is_read_while_it_is_written_is_whole():
    board = Scoreboard.create()
    child = os.fork()
    if child == 0:
        writer = RecordWriter(board, 1, Record())
        for number in itertools.count():
            word = str(number % 10) * 36
            writer.update(job_id=word, execution_id=word, function=word)
    try:
        wait_for(lambda: board.read(1).job_id, what="the writer to have begun")
        records = [board.read(1) for _ in range(20_000)]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        board.close()
    assert {r.job_id == r.execution_id == r.function for r in records} == {True}
    assert len({record.job_id for record in records}) > 1, "it has been written meanwhile"


def test_a_channel_that_is_full_keeps_what_is_sent_in_order():
    ours, socket = Channel.pair()
    theirs = Channel(socket)
    sent = 0
    while len(ours.backlog) < 100:  # what a fork server that hangs is asked for
        sent += 1
        ours.send(WorkerForked(sent, sent, sent))
    received = []
    while len(received) < sent:
        ours.flush()
        while message := theirs.receive():
            received.append(message.slot)
    assert received == list(range(1, sent + 1))
    assert not ours.backlog
    ours.close()
    theirs.close()
