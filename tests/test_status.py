"""`resqued --status`, against a real arbiter and against one that stands still."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import jobs
from harness.command import BIN, environment, run
from harness.waiting import scaled, wait_for
from resqued.scoreboard.runs import compact, expand
from resqued.status import process as status_process

ARBITER = """
import os, sys, time
from resqued.scoreboard import Phase, Record, Scoreboard
board = Scoreboard.create()
now = time.monotonic()
queues = {str(n): ["critical", "high"] for n in (1, 2, 3)} if sys.argv[1] == "slots" else None
board.summary.write({
    "pid": os.getpid(), "state": "running", "generation": 2, "booting": None, "configured": 2,
    "difference": 1, "wished": 3, "ready": 2, "last_reload": "succeeded, generation 2",
    "started": time.time() - 3700, "config": "/srv/resqued.conf.py", "recoveries": 1,
    **({"slots": {"1-3": ["critical", "high"]}} if queues else {}),
})
board.write(1, Record(phase=Phase.RUNNING, pid=os.getpid(), generation=2, name="h.1", serial=4,
    started=now - 90, job_started=now - 65, job_id="a1b2", queue="high", job_timeout=600.0,
    function="myapp.tasks.resize\\x1b[31m", done=104, failed=2))
board.write(2, Record(phase=Phase.IDLE, pid=os.getpid(), generation=2, name="h.2"))
board.write(3, Record(phase=Phase.LEFT, pid=2**22 + 1, generation=2, name="h.3"))
print("up", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def arbiter(tmp_path):
    """Something that looks like an arbiter from outside: a process with a scoreboard."""
    started = []

    def start(kind="slots"):
        process = subprocess.Popen(
            [sys.executable, "-c", ARBITER, kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        (tmp_path / "pid").write_text(f"{process.pid}\n")
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_table(arbiter, tmp_path):
    process = arbiter()
    code, out, err = run("--status", "--pid", "pid", cwd=tmp_path)
    assert (code, err) == (0, "")
    first, second, workers, redis, reload, config, empty, busy, one, *rest = out.splitlines()
    assert f"{first} {second.strip()}" == (
        f"arbiter {process.pid} running, generation 2, 2/3 workers ready, configured 2 (+1),"
        " up 1h01m, 1 recoveries pending"
    )
    assert workers.startswith("workers: 1 busy, 1 idle, 0 booting, 1 down, 0 jobs done, 0 failed")
    assert redis == "redis: not measured yet"
    assert reload == "last reload: succeeded, generation 2"
    assert config == "config: /srv/resqued.conf.py"
    assert (empty, busy) == ("", "busy")
    assert re.fullmatch(r"  1  myapp.tasks.resize\\x1b\[31m  a1b2  high  1m[01]\ds/10m00s", one)
    assert rest == ["idle: 2", "down: 3"]


def test_all_of_it(arbiter, tmp_path):
    process = arbiter()
    shown = subprocess.run(
        [str(BIN / "resquedctl"), "--pid", "pid", "status", "--all"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    *_, columns, one, two, three = shown.stdout.splitlines()
    assert columns.split() == [
        *("WORKER", "PID", "GEN", "STATE", "AGE"),
        *("DONE", "FAILED", "THREADS", "MEMORY", "QUEUES"),
    ]
    assert re.fullmatch(
        rf" +1 +{process.pid} +2  busy +1m[345]\ds +104 +2 +1 +\d+ MB  critical,high", one
    )
    assert two.split()[:4] == ["2", str(process.pid), "2", "idle"]
    assert three.split()[:4] == ["3", "-", "2", "down"]


@pytest.mark.parametrize("kind", ["slots", "none"])
def test_json(arbiter, tmp_path, kind):
    before = time.monotonic()
    arbiter(kind)
    code, out, _ = run("--status", "--json", "--pid", "pid", cwd=tmp_path)
    took = time.monotonic() - before
    answer = json.loads(out)
    assert code == 0
    assert (answer["count"], answer["wished"], answer["process"]) == ("2 (+1)", 3, "running")
    one, two, three = answer["workers"]
    assert (one["number"], one["state"], one["phase"], one["job_id"]) == (
        1,
        "busy",
        "running",
        "a1b2",
    )
    assert 65 <= one["job_age"] <= 65 + took
    assert one["queues"] == (["critical", "high"] if kind == "slots" else [])
    assert (two["job_id"], two["job_age"], two["threads"]) == (None, None, 1)
    assert (three["pid"], three["state"], three["threads"]) == (None, "down", None)


def test_it_answers_when_the_arbiter_is_stopped(arbiter, tmp_path):
    process = arbiter()
    process.send_signal(signal.SIGSTOP)

    def stopped():
        return run("--status", "--pid", "pid", cwd=tmp_path)[1].startswith(
            f"arbiter {process.pid} running, but its process is stopped"
        )

    wait_for(stopped, 10, "the status to say so")


def test_looking_makes_no_pages(arbiter, tmp_path):
    process = arbiter("none")
    before = _blocks(process.pid)
    run("--status", "--pid", "pid", cwd=tmp_path)
    assert _blocks(process.pid) <= before + 24, "the first page of each area, and no more"


def _blocks(pid: int) -> int:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        if str(link.readlink()).startswith("/memfd:resqued-scoreboard"):
            return link.stat().st_blocks
    raise AssertionError("no scoreboard")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no pid file"),
        ("", "there is no pid in it"),
        ("garbage", "there is no pid in it"),
        (str(2**22 + 1), "which has ended"),
        ("-1", "which has ended"),
    ],
)
def test_not_running_is_code_69(tmp_path, content, problem):
    if content is not None:
        (tmp_path / "pid").write_text(content)
    code, out, err = run("--status", "--pid", "pid", cwd=tmp_path)
    assert (code, out) == (69, "")
    assert err.startswith("not running: ")
    assert problem in err


def test_a_pid_file_that_names_another_process_is_code_69(tmp_path):
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            (tmp_path / "pid").write_text(str(other.pid))
            code, out, err = run("--status", "--pid", "pid", cwd=tmp_path)
        finally:
            other.kill()
    assert (code, out) == (69, "")
    assert err.startswith("not running: ")
    assert "which is no arbiter" in err


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_another_users_arbiter_is_code_77(arbiter, tmp_path):
    process = arbiter()
    code = (
        "import os, sys; from resqued.status import show; fd = os.open('pid', os.O_RDONLY);"
        "os.setgroups([]); os.setgid(65000); os.setuid(65000);"
        "sys.exit(show.main(f'/dev/fd/{fd}'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 77
    assert done.stderr == f"the arbiter, pid {process.pid}, belongs to another user\n"


def test_the_pid_file_of_the_config_is_taken(arbiter, tmp_path):
    arbiter()
    (tmp_path / "resqued.conf.py").write_text(f"pid = {str(tmp_path / 'pid')!r}\n")
    code, out, err = run("--status", cwd=tmp_path)
    assert (code, err) == (0, "")
    assert out.startswith("arbiter ")


def test_a_real_one_at_work(resqued, queue, gate, tmp_path):
    there = gate()
    job = queue("high").enqueue(jobs.wait_at, str(there))
    one = resqued("-n2", "--queue", "high=1", "--queue", "low")
    one.wait_for_workers(2)

    def busy():
        return [line for line in one.status()["workers"] if line["job_id"] == job.id]

    (line,) = wait_for(busy, 10, "the job to be shown")
    assert (line["number"], line["state"], line["queue"]) == (1, "busy", "high")
    assert line["queues"] == ["high", "low"]
    assert line["function"].endswith("wait_at")
    assert 0 <= line["job_age"] < 60
    assert line["memory"] > 5_000_000
    one.signal("TTIN")
    wait_for(lambda: one.status()["count"] == "2 (+1)", 10, "the difference")
    there.open()
    wait_for(lambda: sum(each["done"] for each in one.status()["workers"]) == 1, 10, "the job")
    assert time.time() - one.status()["started"] < scaled(60)


@pytest.mark.parametrize(
    ("slots", "written"),
    [
        ({}, {}),
        ({1: ["a"], 2: ["a"], 3: ["b"]}, {"1-2": ["a"], "3": ["b"]}),
        ({1: ["a"], 3: ["a"]}, {"1": ["a"], "3": ["a"]}),
        ({n: ["a", "b"] for n in range(1, 4096)}, {"1-4095": ["a", "b"]}),
    ],
)
def test_queues_are_written_in_runs(slots, written):
    assert compact(slots) == written
    assert expand(written) == slots


def test_of_many_workers_the_resident_memory_is_shown():
    """The share of each would take two milliseconds of the kernel's time."""
    resident, share = status_process.memory_of(os.getpid(), shares=False)
    both = status_process.memory_of(os.getpid(), shares=True)
    assert share is None
    assert resident is not None and resident == pytest.approx(both[0], rel=0.2)
    assert both[1] is not None and both[1] <= both[0]
