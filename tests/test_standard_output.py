"""What both commands do when their standard output cannot be written."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness.command import BIN, environment
from harness.waiting import scaled

CALLS = [
    "resqued --check --queue a",
    "resqued --help",
    "resqued --version",
    "resqued --print-config",
    "resqued --list-hooks",
    "resqued --list-plugins --json",
    "resqued --completion bash",
    "resquedctl --help",
    "resquedctl status --help",
    "resquedctl --version",
    "resquedctl --completion fish",
]


def run(call: str, stdout: int, **env: str) -> tuple[int, str]:
    """Exit status and standard error."""
    program, *words = call.split()
    done = subprocess.run(
        [BIN / program, *words],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        cwd="/",
        env=environment(**env),
        text=True,
        timeout=scaled(30),
    )
    return done.returncode, done.stderr


@pytest.fixture
def full():
    fd = os.open("/dev/full", os.O_WRONLY)
    yield fd
    os.close(fd)


@pytest.fixture
def left():
    """A pipe whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("call", CALLS)
def test_a_full_disk_is_one_line(call, full, valkey):
    said = "standard output cannot be written: No space left on device\n"
    assert run(call, full, RQ_REDIS_URL=valkey.url) == (73, said)


@pytest.mark.parametrize("call", CALLS)
def test_a_reader_that_has_left_is_no_error(call, left, valkey):
    assert run(call, left, RQ_REDIS_URL=valkey.url) == (0, "")


@pytest.mark.parametrize("call", ["resqued --version", "resquedctl --version"])
def test_without_buffers_it_is_the_same(call, full, left):
    assert run(call, full, PYTHONUNBUFFERED="1")[0] == 73
    assert run(call, left, PYTHONUNBUFFERED="1") == (0, "")


def test_letters_that_the_encoding_has_not_are_escaped(valkey):
    for words in (["--check"], ["--print-config"]):
        done = subprocess.run(
            [BIN / "resqued", "--queue", "日本", *words],
            capture_output=True,
            cwd="/",
            env=environment(PYTHONIOENCODING="ascii", RQ_REDIS_URL=valkey.url),
            timeout=scaled(30),
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"\\u65e5\\u672c" in done.stdout


def test_what_was_asked_of_a_running_arbiter_is_done_all_the_same(
    resqued, queue, connection, full, left
):
    arbiter = resqued("-n", 1, "--queue", "a", "--queue", "b")
    arbiter.wait_for_workers(1)
    ctl = f"resquedctl --control {arbiter.socket}"
    assert run(f"{ctl} queue pause a b", left) == (0, "")
    assert sorted(connection.hkeys("rq:resqued:paused")) == [b"a", b"b"]
    for call in ("status", "status --json", "events", "config", "fleet", "why a", "why worker 1"):
        assert run(f"{ctl} {call}", left) == (0, "")
        assert run(f"{ctl} {call}", full)[0] == 73
    assert run(f"{ctl} scale 2", left) == (0, "")
    arbiter.wait_for_workers(2)


def test_a_refusal_is_no_success_when_nobody_reads_it(resqued, left):
    arbiter = resqued("-n", 1, "--queue", "a")
    arbiter.wait_for_workers(1)
    done = subprocess.run(
        [BIN / "resquedctl", "--control", arbiter.socket, "bogus"],
        stdout=left,
        stderr=left,
        cwd=Path("/"),
        env=environment(),
    )
    assert done.returncode == 1
