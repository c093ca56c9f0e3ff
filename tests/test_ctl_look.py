"""The commands of `resquedctl` that look: status, events, stacks, config; and what waits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from harness import jobs
from harness.command import BIN, environment
from harness.terminal import Terminal
from harness.waiting import scaled, wait_for

COMMAND = str(BIN / "resquedctl")


def run(*words: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *map(str, words)],
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=scaled(60),
        stdin=subprocess.DEVNULL,
    )


def test_events_are_told_followed_and_survive_a_reexec(resqued):
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    told = [json.loads(line) for line in arbiter.control("events", "--json").stdout.splitlines()]
    assert all(abs(each["time"] - time.time()) < scaled(60) for each in told)
    assert any("ready, queues=default" in each["text"] for each in told)
    follower = subprocess.Popen(
        [COMMAND, "--control", str(arbiter.socket), "events", "--follow"],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert follower.stdout is not None
        read = follower.stdout.readline
        read()
        assert arbiter.control("scale", 2, "--wait").returncode == 0
        wait_for(lambda: "scale 2: asked for by" in read(), what="the event")
        assert arbiter.control("reexec", "--wait", timeout=120).returncode == 0
        assert arbiter.control("scale", 1, "--wait").returncode == 0
        lines = []
        wait_for(
            lambda: lines.append(read()) or "scale 1: asked for by" in lines[-1],
            what="the event after the re-exec",
        )
        assert any("re-exec done" in line for line in lines)
        assert not any("scale 2: asked for by" in line for line in lines), "each is told once"
        after = arbiter.control("events").stdout
        assert "scale 2: asked for by resquedctl" in after
        assert "re-exec done" in after
        arbiter.stop()
        rest, _ = follower.communicate(timeout=scaled(20))
        assert "TERM" in rest
        assert follower.returncode == 69
    finally:
        follower.kill()
        follower.communicate()


def test_a_follower_that_does_not_read_is_dropped_and_disturbs_nobody(resqued):
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    follower = subprocess.Popen(
        [COMMAND, "--control", str(arbiter.socket), "events", "-f"],
        env=environment(),
        stdout=subprocess.PIPE,
    )
    try:
        assert follower.stdout is not None
        follower.stdout.readline()
        follower.send_signal(signal.SIGSTOP)
        for _ in range(3):
            assert arbiter.control("recycle", 1, "--wait").returncode == 0
    finally:
        follower.kill()
        follower.communicate()
    assert arbiter.control("scale", 1).returncode == 0


@pytest.mark.parametrize("isolation", ["worker", "fork"])
def test_stacks_of_what_runs_the_job_and_nothing_is_killed(resqued, queue, gate, isolation):
    held = gate()
    arbiter = resqued("-n", 2, "--isolation", isolation)
    before = arbiter.wait_for_workers(2)
    job = queue().enqueue(jobs.wait_at, str(held))
    held.wait_until_reached()
    wait_for(lambda: [w for w in arbiter.status()["workers"] if w["job_id"]], what="the job")
    shown = arbiter.control("stacks")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("worker=") == 1
    assert f"job={job.id}" in shown.stdout
    assert "in wait_at" in shown.stdout
    (busy,) = [w["number"] for w in arbiter.status()["workers"] if w["job_id"]]
    idle = arbiter.control("stacks", 3 - busy)
    assert "idle" in idle.stdout
    assert "most recent call first" in idle.stdout
    missing = arbiter.control("stacks", 99)
    assert (missing.returncode, missing.stderr) == (1, "there is no worker 99\n")
    held.open()
    wait_for(lambda: job.get_status(refresh=True) == "finished", what="the job to finish")
    assert {w.pid for w in arbiter.workers().values()} == {w.pid for w in before.values()}


def test_the_loop_may_stand_still(resqued, queue, gate):
    held = gate()
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    queue().enqueue(jobs.wait_at, str(held))
    held.wait_until_reached()
    arbiter.signal("STOP")
    try:
        wait_for(
            lambda: "but its process is stopped" in arbiter.control("status").stdout, what="status"
        )
        assert "in wait_at" in arbiter.control("stacks", 1).stdout
    finally:
        arbiter.signal("CONT")
    held.open()


def test_config_says_where_each_setting_came_from(resqued):
    arbiter = resqued(
        *("-n", 1, "--redis-secret-token", "abc123xyz"),
        config="""
            workers = 16
            def add_options(options):
                options.add("--redis-secret-token", default="")
        """,
        RESQUED_WORKERS="32",
        RESQUED_MAX_WORKERS="40",
    )
    arbiter.wait_for_workers(1)
    shown = arbiter.control("config")
    assert shown.returncode == 0, shown.stderr
    lines = {line.split(" = ")[0]: line for line in shown.stdout.splitlines()}
    assert " --workers (RESQUED_WORKERS says 32, resqued.conf.py:" in lines["workers"]
    assert lines["max_workers"].endswith(" RESQUED_MAX_WORKERS")
    assert "abc123xyz" not in shown.stdout
    assert arbiter.control("scale", 2, "--wait").returncode == 0
    assert "workers: +1 by signals or verbs" in arbiter.control("config").stderr
    plain = {each["name"]: each for each in json.loads(arbiter.control("config", "--json").stdout)}
    assert plain["workers"]["overruled"][0] == {"source": "RESQUED_WORKERS", "value": 32}


def test_a_reload_that_waits_for_the_old_generation(resqued, queue, gate):
    held = gate()
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    queue().enqueue(jobs.wait_at, str(held))
    held.wait_until_reached()
    late = arbiter.control("reload", "--wait=drained", "--timeout", 3)
    assert late.returncode == 75
    assert "generation 1 finishes 1 job" in arbiter.control("status").stdout
    held.open()
    done = arbiter.control("reload", "--wait=drained")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "reload: done; generation 3 is in service\n"
    assert arbiter.status()["generations"] == {"3": "ready"}


def test_a_refused_reload_shows_the_traceback(resqued):
    arbiter = resqued("-n", 1, "-r", "app", app="", expect_errors="reload failed|gen=|Traceback")
    arbiter.wait_for_workers(1)
    (arbiter.directory / "app.py").write_text("raise ValueError('\\x1b[31m no')")
    refused = arbiter.control("reload", "--wait")
    assert refused.returncode == 1
    assert "Traceback (most recent call last)" in refused.stderr
    assert "app.py" in refused.stderr
    assert "\x1b" not in refused.stderr


def on_terminal(*words: str) -> Terminal:
    return Terminal(COMMAND, *words)


def test_a_drain_shows_a_terminal_what_is_left(resqued, queue, gate):
    held = gate()
    arbiter = resqued("-n", 1, "--grace", 300)
    arbiter.wait_for_workers(1)
    queue().enqueue(jobs.wait_at, str(held))
    held.wait_until_reached()
    with on_terminal("--control", str(arbiter.socket), "drain", "--wait") as terminal:
        terminal.wait_for("drain: 1 job left (default 1), grace left")
        held.open()
        assert terminal.exit() == 0
    assert arbiter.exit() == 0


def test_status_on_a_terminal_has_colours_and_can_be_watched(resqued):
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    with on_terminal("--control", str(arbiter.socket), "status", "--watch") as terminal:
        terminal.wait_for("\x1b[2J\x1b[1marbiter")
        terminal.type("\x03")
        assert terminal.exit() == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["stacks", "many"], 64, "'many' is not a valid integer"),
        (["recycle", "0"], 64, "0 is not in the range"),
        (["reload", "--wait=whenever"], 64, "'whenever'"),
        (["reload", "--timeout", "-1"], 64, "-1"),
        (["status", "--ready", "--watch"], 64, "--ready looks once"),
        (["greet", "you"], 64, "'you' is not KEY=VALUE"),
        (["--completion", "tcsh"], 64, "tcsh"),
        (["--pid", "/none", "events"], 69, "/none"),
        (["--pid", "/none", "--name", "web", "events"], 64, "give one of them"),
    ],
)
def test_bad_words_are_refused_with_what_is_wrong(words, code, said):
    done = run(*words)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_closed_standard_output_is_no_defect():
    closed = subprocess.run(
        ["sh", "-c", f"{COMMAND} --pid /none status >&-; {COMMAND} --help | head -1"],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert closed.stdout.startswith("Usage")
    assert "Traceback" not in closed.stderr
    assert "Exception" not in closed.stderr


def test_a_pid_file_that_is_none(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (tmp_path / "text").write_text("x" * 100)
    for path in (fifo, "/dev/zero", tmp_path / "text", "/dev/null"):
        done = run("--pid", path, "status")
        assert (done.returncode, done.stdout) == (69, "")
        assert done.stderr == f"not running: pid file '{path}': there is no pid in it\n"


def test_the_help_has_all_commands_by_section_and_the_exit_codes():
    shown = run("--help").stdout
    for word in ("Look:", "Change:", "Stop:", "Exit status:", "status", "recycle NUMBER...", "75"):
        assert word in shown
    assert all(len(line) <= 100 for line in shown.splitlines())


OTHER = """
import mmap, os, struct, sys, time
from resqued.scoreboard import board
from resqued.scoreboard import Scoreboard
made = Scoreboard.create()
os.pwrite(made.fd, board._HEADER.pack(board.MAGIC, board.VERSION - 1, 4096, 10), 0)
if os.fork():  # the child is as a fork server
    print("up", flush=True)
sys.stdin.readline()
"""


def test_an_arbiter_of_another_version_is_named_as_one(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", OTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == "up\n"
        (tmp_path / "pid").write_text(str(other.pid))
        for words in (["status"], ["reload"], ["events"], ["stacks"]):
            done = run("--pid", tmp_path / "pid", *words)
            assert done.returncode == 69
            assert "runs another resqued: scoreboard version" in done.stderr
        other.stdin.close()


def test_a_top_without_rich_or_a_terminal_says_what_to_do():
    done = run("top")
    assert done.returncode == 64
    assert "top needs a terminal; without one there is `resquedctl status --watch`" in done.stderr


def test_top_on_a_terminal(resqued, queue, gate):
    held = gate()
    arbiter = resqued("-n", 2)
    arbiter.wait_for_workers(2)
    queue().enqueue(jobs.wait_at, str(held))
    held.wait_until_reached()
    with on_terminal("--control", str(arbiter.socket), "top") as terminal:
        terminal.wait_for("1 busy, 1 idle")
        terminal.wait_for("wait_at")
        terminal.wait_for("worker_ready")
        terminal.type("i")
        terminal.wait_for("idle")
        terminal.type("\r")
        terminal.wait_for("most recent call first")
        terminal.type("q")
        terminal.type("q")
        assert terminal.exit() == 0
        assert "\x1b[?1049l" in terminal.shown, "the screen is as it was"
    held.open()


AS_OTHER = """
import os, sys
from resqued.ctl import ask, fleet, look, main, verbs, why
from resqued.status import show
os.setgroups([])
os.setgid(65000)
os.setuid(65000)
sys.argv = ["resquedctl", *sys.argv[1:]]
main.main()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_an_arbiter_of_another_user_is_not_asked(resqued, tmp_path):
    arbiter = resqued("-n", 1)
    arbiter.wait_for_workers(1)
    (tmp_path / "pid").write_text(str(arbiter.pid))
    pid_file = os.open(tmp_path / "pid", os.O_RDONLY)
    for words, code, said in (
        (["--control", str(arbiter.socket), "reload"], 77, "Permission denied"),
        (["--pid", f"/dev/fd/{pid_file}", "status"], 77, "belongs to another user"),
        (["--pid", f"/dev/fd/{pid_file}", "scale", "4"], 77, "belongs to another user"),
        (["--pid", f"/dev/fd/{pid_file}", "why", "worker", "1"], 77, "belongs to another user"),
        (["--pid", f"/dev/fd/{pid_file}", "fleet"], 77, "belongs to another user"),
        (["status"], 69, "no arbiter of this user is to be found"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", AS_OTHER, *words],
            capture_output=True,
            text=True,
            pass_fds=[pid_file],
            env=environment(),
        )
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    os.close(pid_file)
    assert "asked for" not in arbiter.log()
