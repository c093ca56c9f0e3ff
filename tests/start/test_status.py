"""`--status` for people and health checks: without a pid file, with a broken one, `--ready`."""

from __future__ import annotations

import os
import subprocess

import pytest

from harness import processes
from harness.command import COMMAND, environment, run
from harness.waiting import scaled, wait_for

NOWHERE = "redis://127.0.0.1:1"
ALONE = ("unshare", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs a pid namespace of its own")


@pytest.fixture
def alone(tmp_path, no_process_left):
    """`alone(script)`: run it where no other process is to be seen; its output, errors too.

    `$R` is the command. Everything ends with the script.
    """

    def run_alone(script: str, **env: str) -> str:
        done = subprocess.run(
            [*ALONE, "sh", "-ec", script],
            cwd=tmp_path,
            env=environment(R=COMMAND, **env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=scaled(120),
            check=False,
        )
        processes.reap_adopted(keep=set())
        return done.stdout

    return run_alone


@needs_root
def test_without_a_pid_file_it_finds_the_only_one(alone, valkey):
    said = alone(
        """
        $R --status || echo "before: $?"
        $R -D --log-file a
        $R --status
        $R --status --ready --json | grep '"state": "running"'
        echo "ready: $?"
        cd /
        $R --status | head -1
        cd -
        $R -D --log-file b
        $R --status || echo "two: $?"
        """,
        RQ_REDIS_URL=valkey.url,
    )
    assert "not running: no arbiter of this user is to be found" in said
    assert "before: 69" in said
    assert said.count(" running, generation 1, 1/1 workers ready") == 2
    assert "ready: 0" in said
    assert "2 arbiters run here: pid " in said
    assert "two: 64" in said


@needs_root
def test_with_a_broken_config_file_it_is_told_and_the_arbiter_found(alone, valkey):
    said = alone(
        """
        $R -D --log-file a
        echo 'workers = = 1' > resqued.conf.py
        $R --status
        echo "code $?"
        """,
        RQ_REDIS_URL=valkey.url,
    )
    assert "warning: resqued.conf.py:1: invalid syntax" in said
    assert " running, generation 1, 1/1 workers ready" in said
    assert "code 0" in said


def test_ready_is_a_failure_until_a_worker_is(resqued, connection, proxy, tmp_path):
    proxy.refuse()
    arbiter = resqued("--redis", proxy.url, "--pid", tmp_path / "pid")

    def ask() -> int:
        return run("--status", "--ready", "--pid", tmp_path / "pid", cwd=tmp_path)[0]

    arbiter.wait_for("does not answer", timeout=30)
    assert ask() == 69
    assert run("--status", "--pid", tmp_path / "pid", cwd=tmp_path)[0] == 0
    proxy.accept()
    wait_for(lambda: ask() == 0, 30, "a worker to be ready")


@pytest.mark.parametrize("words", [["--stauts"], ["--status", "--jsn"], ["--status", "--pdi", "x"]])
def test_flags_that_nobody_knows_are_refused(tmp_path, words):
    code, out, err = run(*words, cwd=tmp_path)
    assert (code, out) == (64, "")
    assert "no such option" in err


def test_the_flags_of_the_start_may_stand_there(tmp_path):
    (tmp_path / "resqued.conf.py").write_text(
        'def add_options(options):\n    options.add("--color", default="red", help="A color.")\n'
    )
    words = ("--status", "--pid", "pid", "-n", "3", "--color", "blue", "-r", "app")
    code, _, err = run(*words, cwd=tmp_path)
    assert code == 69
    assert "no pid file" in err


def test_ready_goes_with_status(tmp_path):
    code, _, err = run("--ready", cwd=tmp_path)
    assert code == 64
    assert "--ready goes with --status" in err
