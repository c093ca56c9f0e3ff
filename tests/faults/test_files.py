"""Files, pipes and code that go away or are full while it runs."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from faults.load import are_finished
from harness import jobs, processes
from harness.command import TESTS, run
from harness.oracle import assert_one_place_each
from harness.waiting import stays_true, wait_for

ROOT = TESTS.parent


def test_a_full_pipe_for_output_stalls_neither_arbiter_nor_other_jobs(
    resqued, queue, connection, tmp_path
):
    """Nobody reads what is printed: a job that shouts waits, the rest goes on."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    code = "import os, sys; fd = os.open(sys.argv[1], os.O_RDWR); os.dup2(fd, 1); os.dup2(fd, 2);"
    under = [sys.executable, "-c", f"{code} os.execv(sys.argv[2], sys.argv[2:])", str(fifo)]
    arbiter = resqued("-n", 2, under=under)
    arbiter.wait_for_workers(2)
    loud = queue().enqueue(jobs.shout, 5)
    wait_for(lambda: loud.id in arbiter.ledger.started(), what="the loud job to begin")
    ids = [queue().enqueue(jobs.noop).id for _ in range(20)]
    wait_for(lambda: are_finished(connection, ids), 20, "the others' jobs")
    assert loud.id not in arbiter.ledger.ended(), "it waits for a reader"
    arbiter.signal("TTIN")
    arbiter.wait_for_workers(3)
    assert arbiter.stop("TERM") == 0
    assert assert_one_place_each(connection, [loud.id]) == {loud.id: "queue:default"}


def test_what_jobs_print_is_kept_out_of_the_log_and_of_memory(resqued, queue, connection, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    arbiter = resqued(
        "-n", 2, "--stdout-path", out, "--stderr-path", out, "--log-file", log, "--name", "loud"
    )
    before = {each.pid: each.memory_info().rss for each in arbiter.wait_for_workers(2).values()}
    ids = [queue().enqueue(jobs.shout, 25).id for _ in range(4)]
    wait_for(lambda: are_finished(connection, ids), 20, "the loud jobs")
    assert out.stat().st_size >= 4 * 2 * 25 * 2**20
    out.unlink()
    line = re.compile(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [A-Z]+ +(arbiter|worker=|forkserver|steward=)"
    )
    assert [each for each in log.read_text().splitlines() if not line.match(each)] == []
    for process in arbiter.workers().values():
        assert process.memory_info().rss - before[process.pid] < 20 * 2**20


@pytest.mark.parametrize("daemon", [[], ["-D"]], ids=["foreground", "daemon"])
def test_a_full_disk_under_the_pid_file_is_73_before_any_worker(
    tmp_path, valkey, no_process_left, daemon
):
    """A file system of one page in a mount namespace of its own, where there is no disk to fill."""
    mount = 'mount -t tmpfs -o size=4k tmpfs "$PWD" && cd "$PWD" || exit'
    fill = "head -c 100000 /dev/zero >fill 2>&-"
    shell = ["unshare", "-rm", "sh", "-c", f'{mount}; {fill}; exec "$@"', "sh"]
    (tmp_path / "disk").mkdir()
    words = ["--pid", tmp_path / "disk" / "pid", *daemon]
    env = {"RQ_REDIS_URL": valkey.url}
    code, out, error = run(*words, cwd=tmp_path / "disk", under=shell, **env)
    assert code == 73
    assert "disk/pid" in out + error
    assert "No space left" in out + error
    assert "Traceback" not in out + error
    assert "worker=1" not in out + error


def test_a_pid_file_that_is_removed_comes_back_and_status_says_what_to_do(resqued, tmp_path):
    pid = tmp_path / "pid"
    arbiter = resqued("-n", 1, "--pid", pid)
    arbiter.wait_for_workers(1)
    arbiter.signal("STOP")
    pid.unlink()
    code, _, error = run("--status", "--pid", pid, cwd=tmp_path)
    assert code == 69
    assert str(pid) in error
    arbiter.signal("CONT")
    wait_for(lambda: pid.exists() and pid.read_text() == f"{arbiter.pid}\n", what="the file")
    assert run("--status", "--pid", pid, cwd=tmp_path)[0] == 0
    assert arbiter.stop("TERM") == 0
    assert not pid.exists()


def test_code_that_is_replaced_under_it_is_not_missed(resqued, queue, connection, tmp_path):
    """As pip does in the middle of an upgrade: what runs needs no file of ours any more."""
    site = tmp_path / "site"
    for package in (ROOT / "resqued", ROOT / "plugins" / "resqued_plugins"):
        shutil.copytree(package, site / package.name, ignore=shutil.ignore_patterns("*.pyc"))
    arbiter = resqued(
        "-n",
        2,
        "--max-jobs",
        5,
        PYTHONPATH=f"{site}:{TESTS}",
        expect_errors="gen=2|reload|Traceback",
    )
    workers = arbiter.wait_for_workers(2)
    shutil.move(site, tmp_path / "old")
    site.mkdir()
    (site / "resqued").mkdir()
    (site / "resqued" / "__init__.py").write_text("raise RuntimeError('half an upgrade')\n")

    ids = [queue().enqueue(jobs.noop).id for _ in range(20)]
    wait_for(lambda: are_finished(connection, ids), 20, "jobs, by successors too")
    arbiter.signal("KILL", pid=arbiter.wait_for_workers(2)[1].pid)
    arbiter.wait_for("worker=1 .* ended.*signal SIGKILL")
    failing = queue().enqueue(jobs.vanish, 1)
    wait_for(lambda: failing.is_failed, what="a recovery")
    arbiter.signal("HUP")
    arbiter.wait_for("reload failed, gen=1 stays in service", timeout=15)
    arbiter.wait_for_workers(2)
    assert not processes.alive(workers[1].pid)

    shutil.rmtree(site)
    shutil.move(tmp_path / "old", site)
    arbiter.signal("HUP")
    arbiter.wait_for(r"gen=\d+ in service", timeout=15)
    stays_true(lambda: arbiter.running, 0.2, "it is in service")
    assert Path(site, "resqued").exists()
