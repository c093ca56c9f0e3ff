"""The process tree: who is whose child, what each has loaded, and what happens when one dies."""

from __future__ import annotations

import json
import os
import re

import psutil
import pytest

from harness import jobs, processes
from harness.command import run
from harness.oracle import assert_one_place_each
from harness.waiting import stays_true, wait_for

WITNESS = """
    import json, pathlib, sys, threading

    require = ["app"]

    def tick(arbiter):
        seen = {"modules": sorted(sys.modules), "threads": threading.active_count()}
        target = pathlib.Path("seen")
        target.with_suffix(".new").write_text(json.dumps(seen))
        target.with_suffix(".new").rename(target)
"""
APP = """
    import mmap, pathlib
    import rq

    pathlib.Path("app.data").write_bytes(bytes(4096))
    with open("app.data", "r+b") as file:
        data = mmap.mmap(file.fileno(), 0)  # as a library of the app's: /proc shows who has it
"""


def test_the_arbiter_has_neither_rq_nor_redis_nor_the_app(resqued, queue):
    arbiter = resqued("-n", 2, config=WITNESS, app=APP)
    arbiter.wait_for_workers(2)
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.is_finished, what="a job to be done")
    arbiter.signal("HUP")
    wait_for(lambda: len(arbiter.fork_servers()) == 2, what="a reload")
    wait_for(lambda: len(arbiter.fork_servers()) == 1, what="its end")
    (arbiter.directory / "seen").unlink(missing_ok=True)
    wait_for((arbiter.directory / "seen").exists, what="a tick")

    modules = set(json.loads((arbiter.directory / "seen").read_text())["modules"])
    assert not modules & {"rq", "redis", "app", "harness.jobs"}
    data = str(arbiter.directory / "app.data")
    assert data not in processes.mapped_files(arbiter.pid)
    assert data in processes.mapped_files(arbiter.fork_servers()[0].pid), "or the test is blind"


def test_the_arbiter_has_no_connection_and_only_its_watch_as_a_thread(resqued, valkey):
    arbiter = resqued("-n", 2, config=WITNESS, app=APP)
    workers = arbiter.wait_for_workers(2)
    wait_for((arbiter.directory / "seen").exists, what="a tick")

    assert psutil.Process(arbiter.pid).num_threads() == 2
    assert [each.num_threads() for each in arbiter.fork_servers()] == [1], "it forks"
    client = valkey.connect()
    # a unix socket's peers: the server knows the names under which workers have come
    names = {each["name"] for each in client.client_list()} - {""}
    assert len(client.client_list()) >= len(workers)
    assert all(re.search(r"\.(\d+\.\d+|steward)$", name) for name in names), names


def test_titles_say_who_is_who(resqued, queue, gate):
    arbiter = resqued("-n", 2, "-r", "app", "--queue", "high", "--queue", "low=1", app="")
    arbiter.wait_for_workers(2)
    there = gate()
    queue("low").enqueue(jobs.wait_at, str(there))
    there.wait_until_reached()

    def titles():
        tree = [psutil.Process(arbiter.pid), *arbiter.fork_servers(), *arbiter.workers().values()]
        return "\n".join(map(processes.title, tree))

    wait_for(
        lambda: re.fullmatch(
            r"resqued: arbiter 2/2 workers, generation 1\n"
            r"resqued: fork server, generation 1 \[app\]\n"
            r"resqued: worker 1 high,low \[harness\.jobs\.wait_at since \d\d:\d\d:\d\d\]\n"
            r"resqued: worker 2 high \[idle\]",
            titles(),
        ),
        what="the titles",
    )


def test_the_arbiters_children_are_fork_servers_and_theirs_are_workers(resqued):
    arbiter = resqued("-n", 3)
    workers = arbiter.wait_for_workers(3)
    (server,) = psutil.Process(arbiter.pid).children()
    assert processes.title(server).startswith("resqued: fork server")
    steward = arbiter.wait_for_steward()
    assert {each.pid for each in server.children()} == {
        steward.pid,
        *(each.pid for each in workers.values()),
    }
    groups = {os.getpgid(each.pid) for each in workers.values()}
    assert groups == {each.pid for each in workers.values()}, "each has a process group of its own"


def test_killed_fork_server_its_workers_drain_under_the_arbiter(resqued, connection, queue, gate):
    arbiter = resqued("-n", 3, expect_errors="fork server")
    before = arbiter.wait_for_workers(3)
    there = gate()
    job = queue().enqueue(jobs.wait_at, str(there))
    busy = there.wait_until_reached()
    (server,) = arbiter.fork_servers()

    arbiter.signal("KILL", pid=server.pid)
    wait_for(
        lambda: [each.pid for each in arbiter.fork_servers()] not in ([], [server.pid]),
        what="another fork server",
    )
    wait_for(
        lambda: not any(processes.alive(p.pid) for p in before.values() if p.pid != busy),
        what="the idle workers to leave",
    )
    assert psutil.Process(busy).ppid() == arbiter.pid, "the busy one is adopted"
    wait_for(lambda: len(arbiter.workers()) == 3, what="successors of the others")
    again = queue().enqueue(jobs.noop)
    wait_for(lambda: again.is_finished, what="a job done by a successor")

    there.open()
    wait_for(lambda: not processes.alive(busy), what="the adopted worker to leave")
    arbiter.wait_for_workers(3)
    assert assert_one_place_each(connection, [job.id, again.id]) == {
        job.id: "finished:default",
        again.id: "finished:default",
    }


def test_killed_arbiter_everybody_finishes_the_job_and_leaves(resqued, connection, queue, gate):
    arbiter = resqued("-n", 3)
    arbiter.wait_for_workers(3)
    there = gate()
    job = queue().enqueue(jobs.wait_at, str(there))
    busy = there.wait_until_reached()
    family = processes.descendants(arbiter.pid)

    arbiter.signal("KILL")
    arbiter.exit()
    wait_for(
        lambda: not any(processes.alive(p.pid) for p in family if p.pid != busy and not _server(p)),
        what="the idle workers to leave",
    )
    stays_true(lambda: processes.alive(busy), 0.3, "the busy one finishes its job")
    there.open()
    wait_for(lambda: not any(processes.alive(p.pid) for p in family), what="all to leave")
    assert assert_one_place_each(connection, [job.id]) == {job.id: "finished:default"}


def _server(process: psutil.Process) -> bool:
    """Those that stay for as long as a worker does."""
    return any(word in processes.title(process) for word in ("fork server", "steward"))


def test_killed_worker_has_a_successor_at_once(resqued):
    arbiter = resqued("-n", 2, expect_errors="worker=1")
    worker = arbiter.wait_for_workers(2)[1]
    arbiter.signal("KILL", pid=worker.pid)
    successor = wait_for(
        lambda: (found := arbiter.workers().get(1)) and found.pid != worker.pid and found,
        what="a successor",
    )
    assert "next try in" not in arbiter.log(), "without a back-off"
    assert successor.ppid() == arbiter.fork_servers()[0].pid


def test_a_plugins_subprocess_keeps_its_exit_status(resqued):
    arbiter = resqued(
        config="""
            import pathlib, subprocess

            def arbiter_ready(arbiter):
                done = subprocess.run(["sh", "-c", "sleep 0.2; exit 7"])
                pathlib.Path("status").write_text(str(done.returncode))
        """
    )
    status = arbiter.directory / "status"
    wait_for(lambda: status.exists() and status.read_text(), what="the plugin to be done")
    assert status.read_text() == "7"


def test_a_stranger_that_falls_to_the_arbiter_is_reaped(resqued, queue):
    """A job's daemon whose parents have died is the subreaper's."""
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    job = queue().enqueue(jobs.daemonize, 0.2)
    wait_for(lambda: job.is_finished, what="the job to be done")
    wait_for(
        lambda: not [p for p in processes.descendants(arbiter.pid) if processes.is_zombie(p)],
        what="no zombie",
    )
    wait_for(lambda: len(processes.descendants(arbiter.pid)) == 3, what="only ours to be left")


ALONE = ["unshare", "-rpf", "--kill-child", "--mount-proc"]
"""In a PID namespace of its own, as process 1, as in a container."""


@pytest.mark.parametrize("signame", ["QUIT", "TERM"])
def test_it_works_as_process_1(resqued, queue, signame):
    outside = resqued("-n", 2, under=ALONE)
    (inside,) = wait_for(lambda: psutil.Process(outside.pid).children(), what="process 1")
    outside.wait_for_workers(2)
    job = queue().enqueue(jobs.daemonize, 0.1)
    wait_for(lambda: job.is_finished, what="a job to be done")
    wait_for(
        lambda: len(processes.descendants(inside.pid)) == 4,
        what="the orphan to be reaped by process 1",
    )
    outside.signal(signame, pid=inside.pid)
    assert outside.exit() == 0


def test_as_process_1_it_refuses_to_be_a_daemon(tmp_path):
    status, _, complaint = run("-D", cwd=tmp_path, under=ALONE)
    assert status == 64
    assert "process 1" in complaint or "PID 1" in complaint
