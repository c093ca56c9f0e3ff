"""The programs that a job starts: ended with a job that was cut, named after one that was not."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from rq.command import send_kill_horse_command, send_stop_job_command

from harness import processes
from harness.oracle import assert_one_place_each
from harness.waiting import scaled, stays_true, wait_for
from resqued import descendants, linux
from resqued.descendants import Span
from resqued.worker.job.leftovers import log_ended

APP = """
    import ctypes, concurrent.futures, multiprocessing, os, signal, subprocess, sys, time
    from pathlib import Path
    from harness import jobs

    def note(place, *pids):
        for pid in pids:
            with open(place, "a") as file:
                file.write(f"{pid}\\n")

    def program(place):
        child = subprocess.Popen(["sleep", "1000"])
        note(place, child.pid)
        child.wait()

    def shell(place):
        os.system(f"echo $$ >> {place}; exec sleep 1000")

    def session(place):
        child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        note(place, child.pid)
        time.sleep(1000)

    def orphan(place):
        '''Its parent is dead, its session its own, its environment empty.'''
        words = f"env -i setsid sleep 1000 & echo $! >> {place}"
        subprocess.run(["sh", "-c", words], start_new_session=True)
        time.sleep(1000)

    def daemon(place):
        '''The same, and no program was executed.'''
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.closerange(0, 1000)
                note(place, os.getpid())
                time.sleep(1000)
            os._exit(0)
        os.wait()
        time.sleep(1000)

    def stubborn(place):
        child = subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"])
        note(place, child.pid)
        time.sleep(1000)

    def background(place):
        '''An orphan in the worker's own group.'''
        subprocess.run(f"sleep 1000 & echo $! >> {place}", shell=True)
        time.sleep(1000)

    def supervisor(place):
        '''Starts another for each that ends, in a session of its own.'''
        loop = "while :; do setsid sleep 1000 & p=$!; echo $p > $0.last; wait $p; done"
        child = subprocess.Popen(["sh", "-c", f"trap '' TERM; {loop}", place])
        note(place, child.pid)
        time.sleep(1000)

    def halted(place):
        child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        child.send_signal(signal.SIGSTOP)
        note(place, child.pid)
        time.sleep(1000)

    def executor(place):
        fork = multiprocessing.get_context("fork")
        pool = concurrent.futures.ProcessPoolExecutor(2, mp_context=fork)
        waits = [pool.submit(time.sleep, 1000) for _ in range(2)]
        while len(pool._processes) < 2:
            time.sleep(0.01)
        note(place, *pool._processes)
        time.sleep(1000)

    def stuck(place):
        session_of = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        child = subprocess.Popen(["sleep", "1000"])
        note(place, session_of.pid, child.pid)
        jobs.stuck_in_c()

    def helped(place, wait):
        '''By Python's own fork server, which stays.'''
        child = multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(wait,))
        child.start()
        note(place, child.pid)
        child.join()

    def pool(place):
        '''It replaces each child that is ended, for as long as the worker lives.'''
        global kept
        kept = multiprocessing.get_context("fork").Pool(2)
        kept.map_async(time.sleep, [1000, 1000])
        note(place, *(child.pid for child in kept._pool))
        time.sleep(1000)

    def both(place):
        '''Returns at once.'''
        session_of = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        child = subprocess.Popen(["sleep", "1000"])
        note(place, session_of.pid, child.pid)

    def dies(place):
        both(place)
        os.kill(os.getpid(), 9)
        time.sleep(10)

    def cleans(place):
        '''Ends its own, and says so.'''
        child = subprocess.Popen(["sh", "-c", f"trap 'echo cleaned > {place}.word; exit' TERM;"
                                  "while :; do sleep 0.02; done"], start_new_session=True)
        note(place, child.pid)
        time.sleep(1000)
"""

WAYS = {
    "program": 1,
    "shell": 1,
    "session": 1,
    "orphan": 1,
    "daemon": 1,
    "stubborn": 1,
    "background": 1,
    "supervisor": 1,
    "halted": 1,
    "executor": 2,
    "stuck": 2,
}
"""Jobs that wait, and how many processes they start."""


@pytest.fixture
def started(resqued, tmp_path):
    """`started(options)`: the arbiter, for jobs of APP; `started.pids(place, count)`: what one of
    them has started."""

    class Started:
        def __init__(self):
            self.all = []
            self.arbiters = []

        def __call__(self, workers, *arguments, under=()):
            arbiter = resqued(
                "-n", workers, "-r", "app", *arguments, app=APP, under=under,
                expect_errors="killed|ended|failed job|executing|Traceback|Timeout|did not leave",
            )  # fmt: skip
            self.arbiters.append(arbiter)
            arbiter.wait_for_workers(workers)
            return arbiter

        def pids(self, place, count):
            def noted():
                words = place.read_text().split() if place.exists() else []
                return words if len(words) == count else None

            found = [int(pid) for pid in wait_for(noted, 20, f"the programs of {place.name}")]
            self.all += found
            return found

    started = Started()
    yield started
    for arbiter in started.arbiters:
        if arbiter.running:  # zombies that have fallen to it are reaped after five seconds
            arbiter.stop()
    for pid in started.all:  # of a test that has failed, and what was to stay
        if processes.alive(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def begun(started, queue, tmp_path):
    """`begun(way, ...)`: the arbiter, a job that has started its programs, and their pids."""

    def begun(way, *arguments, count=0, under=(), **options):
        place = tmp_path / way
        arbiter = started(1, *arguments, under=under)
        job = queue().enqueue(f"app.{way}", str(place), **options)
        return arbiter, job, started.pids(place, count or WAYS[way])

    return begun


@pytest.fixture
def many(started, queue, tmp_path):
    """`many(ways, ...)`: the arbiter, a worker for each; by way the job, and the pids."""

    def many(ways, *arguments, under=(), **options):
        arbiter = started(len(ways), *arguments, under=under)
        jobs = {way: queue().enqueue(f"app.{way}", str(tmp_path / way), **options) for way in ways}
        pids = {way: started.pids(tmp_path / way, WAYS[way]) for way in ways}
        if "supervisor" in pids:
            pids["supervisor"] += started.pids(tmp_path / "supervisor.last", 1)
        return arbiter, jobs, pids

    return many


def assert_they_end(jobs, pids, status):
    """By the time that Redis has the outcome."""
    for way, job in jobs.items():
        wait_for(
            lambda job=job: job.get_status(refresh=True) == status, 20, f"{way} to be {status}"
        )
        assert not living(pids[way]), way


def living(pids):
    return [pid for pid in pids if processes.alive(pid)]


def none_lives(pids):
    return not living(pids)


def test_they_end_with_a_stopped_job(many, connection, started, tmp_path):
    _, jobs, pids = many(WAYS)
    for job in jobs.values():
        send_stop_job_command(connection, job.id)
    assert_they_end(jobs, pids, "stopped")
    assert not living(started.pids(tmp_path / "supervisor.last", 1))


def test_they_end_before_an_interrupted_job_is_put_back(many, queue):
    arbiter, jobs, pids = many(WAYS)
    began = time.monotonic()
    arbiter.signal("TERM")
    assert_they_end(jobs, pids, "queued")
    assert arbiter.exit() == 0
    assert time.monotonic() - began < scaled(9)
    assert sorted(queue().job_ids) == sorted(job.id for job in jobs.values())


def test_they_end_with_a_job_whose_time_is_over(many):
    _, jobs, pids = many(["session", "stuck", "daemon"], "--kill-after", 1, job_timeout=2)
    assert_they_end(jobs, pids, "failed")


def test_they_end_with_the_grace(many):
    arbiter, jobs, pids = many(["orphan", "stuck"], "--grace", 0.5)
    arbiter.signal("QUIT")
    assert_they_end(jobs, pids, "queued")
    assert arbiter.exit() == 0


def test_they_end_with_a_job_whose_fork_server_is_dead(begun):
    """It is the arbiter itself that kills the worker then."""
    arbiter, job, pids = begun("stuck")
    arbiter.expect_errors += "|fork server"
    (server,) = arbiter.fork_servers()
    server.kill()
    arbiter.wait_for("gen=1 ready", times=2, timeout=20)  # the next one, which can recover
    arbiter.signal("TERM")
    wait_for(lambda: job.get_status(refresh=True) == "queued", 15, "the job to be put back")
    assert none_lives(pids)


def test_they_end_with_a_job_that_kills_its_worker(begun, connection):
    """It may be run again, and they would run beside it."""
    _, job, pids = begun("dies", count=2)
    wait_for(lambda: job.get_status(refresh=True) == "failed", 15, "the job to be failed")
    assert none_lives(pids)
    assert_one_place_each(connection, [job.id])


@pytest.mark.parametrize("command", [send_kill_horse_command, send_stop_job_command])
def test_they_end_with_a_horse(begun, connection, command):
    _, job, pids = begun("session", "-w", "rq.Worker")
    name = job.worker_name or (job.refresh(), job.worker_name)[1]
    command(connection, job.id if command is send_stop_job_command else name)
    wait_for(lambda: job.get_status(refresh=True) in ("failed", "stopped"), 15, "its outcome")
    wait_for(lambda: none_lives(pids), 5, "the programs to be gone")


def test_they_end_where_the_mark_cannot_be_had(many, connection):
    """A limit of the administrator's: parents and groups still tell."""
    _, jobs, pids = many(["session", "stuck"], under=["prlimit", "--locks=0:0"])
    for job in jobs.values():
        send_stop_job_command(connection, job.id)
    wait_for(lambda: all(job.get_status() == "stopped" for job in jobs.values()), 15, "the stops")
    wait_for(lambda: all(map(none_lives, pids.values())), 5, "the programs to be gone")


def test_they_end_without_redis_too(begun, valkey):
    arbiter, _, pids = begun("session")
    arbiter.expect_errors += "|ERROR"
    valkey.stop()
    began = time.monotonic()
    arbiter.signal("TERM")
    wait_for(lambda: none_lives(pids), 5, "the programs to be gone")
    arbiter.exit(12)
    assert time.monotonic() - began < scaled(7)


def test_a_pool_that_replaces_its_processes_is_let_go_of(begun, connection):
    """And does not hang in its finalizer, of which one of its dead processes may hold the lock."""
    arbiter, job, pids = begun("pool", count=2)
    send_stop_job_command(connection, job.id)
    wait_for(lambda: job.get_status(refresh=True) == "stopped", 15, "the job to be stopped")
    assert none_lives(pids)
    arbiter.wait_for(r"exited \(after its job was cut\)")
    assert "still runs" not in arbiter.log()
    assert "exit-timeout" not in arbiter.log()


@pytest.mark.parametrize("cls", ["rq.Worker", "rq.SimpleWorker"])
def test_they_end_with_a_timeout_in_other_classes_too(begun, cls):
    _, job, pids = begun("session", "-w", cls, job_timeout=2)
    wait_for(lambda: job.get_status(refresh=True) == "failed", 15, "the job to be failed")
    assert none_lives(pids)


def test_they_end_when_everything_was_killed_and_the_next_start_recovers(begun, started, tmp_path):
    arbiter, _, (first,) = begun("orphan")
    (worker,) = arbiter.workers().values()
    for process in (*arbiter.fork_servers(), worker, psutil.Process(arbiter.pid)):
        process.kill()
    arbiter.exit()
    assert processes.alive(first)
    started(1)
    pids = started.pids(tmp_path / "orphan", 2)  # of the job's next run
    assert living(pids) == pids[1:]


def test_those_of_another_worker_stay(started, queue, connection, tmp_path):
    started(2)
    first, second = (queue().enqueue("app.orphan", str(tmp_path / name)) for name in "ab")
    ending, staying = (started.pids(tmp_path / name, 1) for name in "ab")
    send_stop_job_command(connection, first.id)
    wait_for(lambda: first.get_status(refresh=True) == "stopped", 15, "the job to be stopped")
    assert none_lives(ending)
    assert living(staying) == staying
    assert second.get_status(refresh=True) == "started"


def test_they_may_clean_up(begun, connection, tmp_path):
    _, job, pids = begun("cleans", count=1)
    send_stop_job_command(connection, job.id)
    wait_for(lambda: job.get_status(refresh=True) == "stopped", 15, "the job to be stopped")
    assert none_lives(pids)
    assert Path(f"{tmp_path}/cleans.word").read_text() == "cleaned\n"


def test_what_is_older_than_the_job_stays(begun, queue, connection, tmp_path):
    arbiter, _, (in_session, in_group) = begun("both", count=2)
    arbiter.wait_for("has left")
    place = tmp_path / "second"
    job = queue().enqueue("app.session", str(place))
    wait_for(place.exists, 10, "the second job")
    assert processes.alive(in_group)
    send_stop_job_command(connection, job.id)
    wait_for(lambda: job.get_status(refresh=True) == "stopped", 15, "the job to be stopped")
    assert none_lives([int(place.read_text())])
    assert processes.alive(in_session)


def test_what_an_older_helper_has_started_for_the_job_ends_too(
    started, queue, connection, tmp_path
):
    arbiter = started(1)
    first = queue().enqueue("app.helped", str(tmp_path / "a"), 0)
    wait_for(lambda: first.is_finished, 20, "the first job, and with it the helper")
    (worker,) = arbiter.workers().values()
    helpers = worker.children()
    second = queue().enqueue("app.helped", str(tmp_path / "b"), 1000)
    pids = started.pids(tmp_path / "b", 1)
    send_stop_job_command(connection, second.id)
    wait_for(lambda: second.get_status(refresh=True) == "stopped", 15, "the job to be stopped")
    assert none_lives(pids)
    wait_for(lambda: none_lives([helper.pid for helper in helpers]), 10, "the helpers to leave")


def test_what_a_finished_job_leaves_is_named_and_ends_with_its_worker(begun, queue):
    arbiter, job, (in_session, in_group) = begun("both", count=2)
    (stays,) = arbiter.wait_for(rf"job={job.id} has left (pid=\d+ sleep) running: it ends when")
    (runs,) = arbiter.wait_for(rf"job={job.id} has left (pid=\d+ sleep) running, in a session")
    assert (stays[1], runs[1]) == (f"pid={in_group} sleep", f"pid={in_session} sleep")
    later = [queue().enqueue("app.time.time") for _ in range(3)]
    wait_for(lambda: all(job.is_finished for job in later), 10, "later jobs")
    assert len(re.findall("has left", arbiter.log())) == 2
    stays_true(lambda: processes.alive(in_group), 0.3, "its worker lives")
    arbiter.stop("QUIT")
    assert not processes.alive(in_group)
    assert processes.alive(in_session)


def test_a_recycled_worker_leaves_nothing_in_its_group(begun):
    arbiter, _, (in_session, in_group) = begun("both", "--max-jobs", 1, count=2)
    wait_for(lambda: not processes.alive(in_group), 10, "what was left in the group to end")
    arbiter.wait_for_workers(1)
    assert processes.alive(in_session)


def test_what_does_not_end_in_time_is_named(log_lines):
    since = linux.boot_ticks()
    span = Span(os.getpid(), linux.birth_ticks(os.getpid()), since)
    words = ["sh", "-c", "trap '' TERM; echo; exec sleep 1000"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"\n"
        began = time.monotonic()
        ended = descendants.end(span, gentle=10, limit=0.3)
        assert 0.3 <= time.monotonic() - began < scaled(5)
        assert [process.pid for process in ended.left] == [child.pid]
        log_ended("j1", ended)
        assert f"job=j1 was cut, and pid={child.pid} sleep still runs" in "".join(log_lines)
        ended = descendants.end(span, gentle=0)
        assert ([process.pid for process in ended.gone], ended.left) == ([child.pid], [])
    assert descendants.end(span).gone == []
