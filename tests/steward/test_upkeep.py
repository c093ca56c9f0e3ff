"""The steward's life, and what it sees to for all workers: suspension, schedules, maintenance."""

from __future__ import annotations

import re
import time
from datetime import timedelta

import psutil
from rq.suspension import resume, suspend

from harness import jobs, processes
from harness.waiting import stays_true, wait_for


def states(connection):
    return {connection.hget(key, "state") for key in connection.smembers("rq:workers")}


# Its life.


def test_killed_it_is_started_again(resqued):
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    old = arbiter.wait_for_steward().pid
    arbiter.signal("KILL", pid=old)
    arbiter.wait_for_steward(other_than=old)
    arbiter.wait_for(rf"steward=\d+ gen=1 pid={old} ended: signal 9")


def test_it_leaves_when_asked_to_and_another_comes(resqued):
    arbiter = resqued("-n", 1)
    old = arbiter.wait_for_steward().pid
    for name in ("HUP", "USR2", "TTIN", "TTOU", "WINCH"):
        arbiter.signal(name, pid=old)
    arbiter.signal("QUIT", pid=old)
    arbiter.wait_for_steward(other_than=old)


def test_a_reload_brings_a_new_one_before_the_old_one_leaves(resqued):
    arbiter = resqued("-n", 1)
    old = arbiter.wait_for_steward()
    arbiter.signal("HUP")
    arbiter.wait_for("gen=2 in service")
    new = arbiter.wait_for_steward(other_than=old.pid)
    assert new.ppid() == arbiter.fork_servers()[-1].pid


def test_it_stays_over_a_re_exec(resqued):
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    old = arbiter.wait_for_steward()
    arbiter.signal("USR2")
    arbiter.wait_for("re-exec done")
    assert processes.alive(old.pid)
    arbiter.wait_for("gen=2 in service")
    arbiter.wait_for_steward(other_than=old.pid)


def test_it_outlives_its_fork_server_until_there_is_another(resqued, queue, gate):
    arbiter = resqued("-n", 1, expect_errors="fork server ended")
    door = gate()
    queue().enqueue(jobs.wait_at, str(door))
    door.wait_until_reached()
    old = arbiter.wait_for_steward()
    arbiter.signal("KILL", pid=arbiter.fork_servers()[0].pid)
    arbiter.wait_for_steward(other_than=old.pid)


def test_it_runs_no_hook(resqued):
    arbiter = resqued("-n", 1, probe=True)
    steward = arbiter.wait_for_steward()
    arbiter.signal("USR1")
    arbiter.wait_for_call("reopen_logs", times=3)
    assert steward.pid not in {call.pid for call in arbiter.calls()}


def test_it_comes_up_when_redis_does(resqued, valkey, queue):
    valkey.stop()
    arbiter = resqued("-n", 1)
    arbiter.wait_for("does not answer")
    valkey.start()
    arbiter.wait_for_steward(timeout=20)
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.get_status() == "finished", 10, "a job to be done")


# Suspension.


def test_suspended_within_a_second_and_resumed_so(resqued, connection, queue):
    arbiter = resqued("-n", 3)
    arbiter.wait_for_workers(3)
    arbiter.wait_for_steward()
    suspend(connection)
    wait_for(lambda: states(connection) == {b"suspended"}, what="all to be suspended")
    ids = [queue().enqueue(jobs.noop) for _ in range(5)]
    stays_true(lambda: queue().count == 5, 0.5, "nobody takes a job")
    resume(connection)
    wait_for(lambda: all(job.get_status() == "finished" for job in ids), what="the jobs to be done")
    wait_for(lambda: states(connection) == {b"idle"}, what="all to be idle")


def test_suspended_workers_leave_redis_to_the_steward(resqued, connection):
    arbiter = resqued("-n", 5)
    arbiter.wait_for_workers(5)
    arbiter.wait_for_steward()
    suspend(connection)
    wait_for(lambda: states(connection) == {b"suspended"}, what="all to be suspended")
    connection.config_resetstat()
    began = time.monotonic()
    time.sleep(2.2)
    calls = connection.info("commandstats")["cmdstat_exists"]["calls"]
    seconds = time.monotonic() - began
    assert calls <= 2 * seconds + 10  # one a second, and the heartbeats' own


# Scheduled jobs.


def test_one_scheduler_for_all_workers(resqued, connection, queue):
    arbiter = resqued("-n", 3, "--with-scheduler", "--queue", "a", "--queue", "*")
    arbiter.wait_for_workers(3)
    arbiter.wait_for_steward()
    ids = [queue(name).enqueue_in(timedelta(seconds=1), jobs.noop) for name in ("a", "later", "a")]
    wait_for(lambda: all(job.get_status() == "finished" for job in ids), 20, "the jobs to be done")
    assert len(connection.keys("rq:scheduler:*")) == 1
    assert sorted(arbiter.ledger.ended()) == sorted(job.id for job in ids)
    old = arbiter.wait_for_steward().pid
    arbiter.signal("HUP")
    arbiter.wait_for_steward(other_than=old)
    job = queue("a").enqueue_in(timedelta(seconds=1), jobs.noop)
    wait_for(lambda: job.get_status() == "finished", 20, "the new one to schedule")


def test_a_killed_steward_leaves_its_locks_to_the_next(resqued, connection, queue):
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    old = arbiter.wait_for_steward().pid
    lock = "rq:scheduler-lock:default"
    holder = wait_for(lambda: connection.get(lock), 10, "the lock")
    arbiter.signal("STOP", pid=old)
    job = queue().enqueue_in(timedelta(seconds=0), jobs.noop)
    arbiter.signal("KILL", pid=old)
    arbiter.wait_for_steward(other_than=old)
    wait_for(lambda: job.get_status() == "finished", 10, "the next steward to go on")
    assert connection.get(lock) == holder
    assert connection.pttl(lock) <= 15000
    assert arbiter.stop("QUIT") == 0
    assert not connection.keys("rq:scheduler*")


def test_an_arbiter_that_is_gone_is_followed_by_another(resqued, connection, queue):
    """Its locks are held for 15 s after it."""
    first = resqued("-n", 1, "--name", "first", expect_errors="fork server ended")
    first.wait_for_workers(1)
    first.wait_for_steward()
    lock = "rq:scheduler-lock:default"
    holder = wait_for(lambda: connection.get(lock), 10, "the lock")
    for process in [*processes.descendants(first.pid), psutil.Process(first.pid)]:
        process.kill()
    second = resqued("-n", 1, "--name", "second")
    second.wait_for_workers(1)
    job = queue().enqueue_in(timedelta(seconds=0), jobs.noop)
    wait_for(lambda: job.get_status() == "finished", 30, "the second to take over")
    assert connection.get(lock) != holder


def test_no_scheduler_where_none_is_wanted(resqued, connection, queue):
    arbiter = resqued("-n", 1, "--no-scheduler")
    arbiter.wait_for_steward()
    job = queue().enqueue_in(timedelta(seconds=0), jobs.noop)
    stays_true(lambda: job.get_status() == "scheduled", 1.5, "nobody schedules")
    assert not connection.keys("rq:scheduler*")


# Maintenance.


CLEANING = "cleaning registries for queue: "


def test_maintenance_is_of_all_queues_by_one_worker_at_a_time(resqued):
    """`--loop-timeout 8` has idle workers look up every two seconds."""
    arbiter = resqued(
        *("-n", 4, "-v", "--queue", "a", "--queue", "b=1", "--loop-timeout", 8),
        *("--maintenance-interval", 6),
    )
    arbiter.wait_for_workers(4)
    rounds = arbiter.wait_for(f"{CLEANING}b", times=3, timeout=30)
    cleaned = re.findall(
        f"(worker=.*) rq.worker: .*{CLEANING}(.)", arbiter.log()[: rounds[-1].end()]
    )
    assert [queue for _, queue in cleaned] == ["a", "b"] * 3
    by = [worker for worker, _ in cleaned]
    assert all(by[at] == by[at + 1] for at in (0, 2, 4))


def test_without_a_steward_nothing_is_declared_abandoned(resqued, connection, queue, gate):
    """An execution whose time seems to be over is left alone while nobody vouches for others."""
    door = gate()
    arbiter = resqued("-n", 2, "-v", "--maintenance-interval", 3, "--loop-timeout", 8)
    arbiter.wait_for_workers(2)
    arbiter.wait_for(CLEANING)
    steward = arbiter.wait_for_steward()
    arbiter.signal("STOP", pid=steward.pid)
    job = queue().enqueue(jobs.wait_at, str(door))
    door.wait_until_reached()
    (member,) = connection.zrange("rq:wip:default", 0, -1)
    connection.zadd("rq:wip:default", {member: 1})
    stays_true(lambda: job.get_status() == "started", 3, "the job is not called abandoned")
    arbiter.signal("CONT", pid=steward.pid)
    wait_for(lambda: connection.zscore("rq:wip:default", member) > 1, 15, "it to be vouched for")
    assert job.get_status() == "started"
    door.open()
    wait_for(lambda: job.get_status() == "finished", 5, "the job to end")


def test_a_maintenance_lock_that_was_left_behind_is_in_nobodys_way(resqued, connection, queue):
    """Recovery needs no maintenance, and so none of its locks."""
    connection.set("rq:clean_registries:default", 1, ex=899)
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    job = queue().enqueue(jobs.kill_self)
    wait_for(lambda: job.get_status() == "failed", 5, "the job to fail")


def test_a_worker_that_cleans_thousands_of_queues_leaves_when_it_is_told_to(resqued, connection):
    arbiter = resqued("-n", 1, config="queues = {f'queue-{i}': 'all' for i in range(8000)}")
    arbiter.wait_for_workers(1)
    wait_for(lambda: connection.exists("rq:resqued:maintained:queue-5"), 20, "its maintenance")
    assert arbiter.stop("TERM") == 0
    assert not connection.exists("rq:resqued:maintained:queue-7999"), "it was in the midst of it"
    assert "did not leave" not in arbiter.log()
