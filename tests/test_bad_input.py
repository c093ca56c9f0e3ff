"""What surrounds it is wrong: Redis, passwords, files, descriptors, signals, the directory."""

from __future__ import annotations

import fcntl
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import redis
from rq import Queue

from harness import jobs, processes
from harness.command import COMMAND, environment, run
from harness.server import Server
from harness.waiting import stays_true, wait_for, wait_for_exit

CANARY = "c4n4ry%2Fs3cret"
PLAIN = "c4n4ry/s3cret"
"""A password as it is in a URL, and as Redis gets it."""


def settled(arbiter, queue):
    """A job is done: the service works."""
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.is_finished, 15, "a job to be done")


# --- Redis -----------------------------------------------------------------------------------


def test_redis_that_is_down_at_the_start_is_waited_for(resqued, valkey, queue):
    valkey.stop()
    arbiter = resqued("-n", 2)
    arbiter.wait_for("no worker can reach Redis yet")
    stays_true(lambda: arbiter.running, 0.5, "it waits")
    wait_for(
        lambda: {each["state"] for each in arbiter.status()["workers"]} == {"connecting"},
        what="their state to be shown",
    )
    valkey.start()
    arbiter.wait_for_workers(2)
    settled(arbiter, queue)
    assert "ended" not in arbiter.log(), "nobody had to die for it"


def test_a_daemon_started_without_redis_is_a_success_with_a_warning(resqued, valkey, queue):
    valkey.stop()
    arbiter = resqued("-D", "-n", 1)  # asserts the exit status 0
    assert "no worker can reach Redis yet" in arbiter.output.read_text()
    valkey.start()
    arbiter.wait_for_workers(1)
    settled(arbiter, queue)


@pytest.mark.parametrize("signame", ["TERM", "QUIT"])
def test_it_leaves_at_once_while_redis_is_down(resqued, valkey, signame):
    valkey.stop()
    arbiter = resqued("-n", 2)
    arbiter.wait_for("no worker can reach Redis yet")
    assert arbiter.stop(signame, timeout=5) == 0


def test_a_password_that_is_refused_is_one_clear_line(resqued, secured, queue):
    arbiter = resqued("-n", 1, RQ_REDIS_URL=secured("wrong-canary"), expect_errors="refuses access")
    arbiter.wait_for(r"redis unix://:\*\*\*@.* refuses access: .*$")
    stays_true(lambda: arbiter.running, 1, "it waits for somebody to mend it")
    assert len(re.findall("refuses access", arbiter.log())) == 1
    assert "Traceback" not in arbiter.log()
    assert "wrong-canary" not in arbiter.log()


def test_the_password_is_seen_nowhere(resqued, secured, tmp_path, queue, gate):
    url = secured(CANARY)
    arbiter = resqued(
        "-v",
        "-n",
        2,
        "--redis",
        url,
        "--pid",
        tmp_path / "pid",
        expect_errors="told to fail|failed job|rq.worker|Traceback",
    )
    arbiter.wait_for_workers(2)
    client = redis.Redis.from_url(url)
    there = gate()
    Queue(connection=client).enqueue(jobs.wait_at, str(there))
    there.wait_until_reached()
    failed = Queue(connection=client).enqueue(jobs.fail)
    wait_for(lambda: failed.is_failed, what="a job to fail")
    seen = [failed.latest_result().exc_string]
    for process in [psutil.Process(arbiter.pid), *processes.descendants(arbiter.pid)]:
        seen.append(Path(f"/proc/{process.pid}/cmdline").read_text())
    there.open()
    arbiter.signal("HUP")
    arbiter.wait_for("gen=2 in service", timeout=15)
    pid = tmp_path / "pid"
    for words in (["--status"], ["--status", "--json"], ["--check"], ["--list-plugins"]):
        code, out, error = run(*words, "--pid", pid, cwd=tmp_path, RQ_REDIS_URL=url)
        assert code == 0, error
        seen += [out, error]
    seen.append(arbiter.log())
    seen += [client.hget(key, "name") or b"" for key in client.keys("rq:worker:*")]
    client.close()
    assert arbiter.stop("TERM") == 0
    seen.append(arbiter.log())
    for text in map(str, seen):
        assert CANARY not in text
        assert PLAIN not in text


@pytest.fixture
def secured(valkey: Server):
    """`secured(password)`: a URL with this password, for the server that now wants PLAIN."""
    client = valkey.connect()
    client.config_set("requirepass", PLAIN)
    yield lambda password: f"unix://:{password}@{valkey.socket}"
    client.config_set("requirepass", "")


# --- The pid file, the log -------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, valkey, no_process_left):
    """Where commands run that are to fail."""
    return tmp_path


def test_a_pid_file_that_another_holds_is_75(resqued, tmp_path):
    arbiter = resqued("--pid", tmp_path / "pid")
    arbiter.wait_for_workers(1)
    for flags in ([], ["-D"]):
        code, out, error = run("--pid", tmp_path / "pid", *flags, cwd=tmp_path)
        assert code == 75
        assert f"pid {arbiter.pid}" in out + error
    assert (tmp_path / "pid").read_text() == f"{arbiter.pid}\n"
    assert arbiter.running


def test_a_pid_file_of_a_dead_arbiter_is_in_nobodys_way(resqued, tmp_path):
    (tmp_path / "pid").write_text(f"{os.getpid()}\n")  # a living process, but not an arbiter
    arbiter = resqued("--pid", tmp_path / "pid")
    arbiter.wait_for_workers(1)
    assert (tmp_path / "pid").read_text() == f"{arbiter.pid}\n"


@pytest.mark.parametrize("flag", ["--pid", "--log-file", "--stdout-path"])
@pytest.mark.parametrize("daemon", [[], ["-D"]], ids=["foreground", "daemon"])
def test_a_file_that_cannot_be_made_is_73(folder, valkey, flag, daemon):
    (folder / "file").touch()
    code, out, error = run(
        flag, folder / "file" / "x", *daemon, cwd=folder, RQ_REDIS_URL=valkey.url
    )
    assert code == 73
    assert str(folder / "file" / "x") in out + error
    assert "Traceback" not in out + error


def test_a_full_disk_under_the_log_stops_no_job(resqued, queue):
    arbiter = resqued("-n", 2, "--log-file", "/dev/full")
    arbiter.wait_for_workers(2)
    settled(arbiter, queue)
    arbiter.signal("HUP")
    wait_for(lambda: "generation 2" in processes.title(psutil.Process(arbiter.pid)), 15)
    settled(arbiter, queue)


def test_a_reader_of_the_output_that_leaves_stops_nobody(folder, valkey, queue):
    process = subprocess.Popen(
        [COMMAND, "-n", "2"],
        cwd=folder,
        env=environment(RQ_REDIS_URL=valkey.url, RESQUED_LEDGER=str(folder / "ledger")),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    while b"ready, queues" not in process.stdout.readline():
        pass
    process.stdout.close()
    settled(None, queue)
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: "generation 2" in processes.title(psutil.Process(process.pid)), 15)
    settled(None, queue)
    process.send_signal(signal.SIGTERM)
    assert wait_for_exit(process, 10) == 0


# --- Classes, the config file ----------------------------------------------------------------

UNKNOWN = [
    ("--worker-class", "nowhere.Worker"),
    ("--job-class", "nowhere.Job"),
    ("--queue-class", "rq.Nothing"),
    ("--connection-class", "nowhere.Redis"),
    ("--serializer", "nowhere.Serializer"),
    ("--exception-handler", "nowhere.handle"),
]


@pytest.mark.parametrize(("flag", "value"), UNKNOWN)
@pytest.mark.parametrize("check", [["--check"], []], ids=["check", "start"])
def test_what_cannot_be_used_is_told_by_name(folder, valkey, flag, value, check):
    code, out, error = run(flag, value, *check, cwd=folder, RQ_REDIS_URL=valkey.url)
    assert code in (64, 78)
    assert value in out + error
    assert "Traceback" not in out + error


def test_a_config_file_that_everybody_may_write_to_stops_a_start_and_a_reload(resqued, tmp_path):
    config = tmp_path / "resqued.conf.py"
    config.touch()
    config.chmod(0o666)
    code, _, error = run(cwd=tmp_path)
    assert code == 77
    assert "everybody may write to it" in error

    arbiter = resqued(config="", expect_errors="reload|write to it")
    arbiter.wait_for_workers(1)
    (arbiter.directory / "resqued.conf.py").chmod(0o666)
    arbiter.signal("HUP")
    arbiter.wait_for(r"reload failed, gen=1 stays in service:(.*\n)?.*everybody may write to it")


# --- What a parent has left us ---------------------------------------------------------------

WITH = "import os, signal, sys; {}; os.execv(sys.argv[1], sys.argv[1:])"


@pytest.mark.parametrize(
    "code",
    [
        "os.closerange(0, 3)",
        "os.close(0)",
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))",
        "[signal.signal(s, signal.SIG_IGN) for s in (1, 2, 3, 10, 12, 13, 15, 17, 21, 22, 28)]",
        "os.nice(5)",
        "os.umask(0o777)",
    ],
    ids=["fds", "stdin", "sigchld", "blocked", "ignored", "nice", "umask"],
)
def test_what_the_parent_has_closed_blocked_and_ignored(resqued, queue, code):
    arbiter = resqued("-n", 2, under=[sys.executable, "-c", WITH.format(code)])
    before = {n: each.pid for n, each in arbiter.wait_for_workers(2).items()}
    settled(arbiter, queue)
    arbiter.signal("KILL", pid=before[1])
    wait_for(lambda: arbiter.workers().get(1, None) not in (None, before[1]), what="a successor")
    arbiter.wait_for_workers(2)
    arbiter.signal("HUP")
    wait_for(lambda: "generation 2" in processes.title(psutil.Process(arbiter.pid)), 15)
    arbiter.signal("USR2")
    wait_for(lambda: "generation 3" in processes.title(psutil.Process(arbiter.pid)), 20)
    arbiter.signal("TTIN")
    arbiter.wait_for_workers(3)
    settled(arbiter, queue)
    assert arbiter.stop("QUIT") == 0


def test_few_descriptors_are_enough_and_too_few_kill_nobody(resqued, queue):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))"
    arbiter = resqued("-n", 2, under=[sys.executable, "-c", WITH.format(limit)])
    arbiter.wait_for_workers(2)
    settled(arbiter, queue)
    arbiter.signal("HUP")
    wait_for(lambda: "generation 2" in processes.title(psutil.Process(arbiter.pid)), 15)
    settled(arbiter, queue)


def test_a_reload_without_a_descriptor_left_keeps_the_old(resqued, queue):
    arbiter = resqued(
        "-n", 2, "-v", expect_errors="cannot be started|reload|re-exec|Errno|Traceback"
    )
    before = {n: each.pid for n, each in arbiter.wait_for_workers(2).items()}
    arbiter.wait_for_steward()
    used = max(int(each.name) for each in Path(f"/proc/{arbiter.pid}/fd").iterdir())
    limits = resource.prlimit(arbiter.pid, resource.RLIMIT_NOFILE)
    for signame in ("HUP", "USR2"):
        wait_for(lambda: psutil.Process(arbiter.pid).status() == "sleeping", what="its wait")
        arbiter.signal("STOP")  # it raises so low a limit in its next turn
        wait_for(lambda: psutil.Process(arbiter.pid).status() == "stopped", what="the stop")
        resource.prlimit(arbiter.pid, resource.RLIMIT_NOFILE, (used + 1, limits[1]))
        arbiter.signal(signame)
        arbiter.signal("CONT")
        arbiter.wait_for({"HUP": "reload failed", "USR2": "re-exec abandoned"}[signame])
    settled(arbiter, queue)
    assert {n: each.pid for n, each in arbiter.workers().items()} == before

    resource.prlimit(arbiter.pid, resource.RLIMIT_NOFILE, limits)
    arbiter.signal("HUP")
    arbiter.wait_for("in service", timeout=15)


def test_a_working_directory_that_is_gone(resqued, queue, tmp_path):
    """As a deployment that removes the release which is still running."""
    release = tmp_path / "release"
    release.mkdir()
    arbiter = resqued(
        "-n",
        1,
        under=["sh", "-c", f'cd {release} && exec "$@"', "sh"],
        expect_errors="reload|re-exec|cannot be started|No such file",
    )
    before = {n: each.pid for n, each in arbiter.wait_for_workers(1).items()}
    release.rmdir()
    settled(arbiter, queue)
    for signame in ("HUP", "USR2"):
        arbiter.signal(signame)
        arbiter.wait_for({"HUP": "reload failed", "USR2": "re-exec abandoned"}[signame])
    assert {n: each.pid for n, each in arbiter.workers().items()} == before
    settled(arbiter, queue)

    release.mkdir()
    arbiter.signal("HUP")
    arbiter.wait_for("in service", timeout=15)
    settled(arbiter, queue)


def test_a_pid_file_on_a_lock_that_is_not_ours_is_not_taken_over(folder, valkey):
    with (folder / "pid").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        code, out, error = run("--pid", folder / "pid", cwd=folder, RQ_REDIS_URL=valkey.url)
    assert code == 75
    assert "Traceback" not in out + error
