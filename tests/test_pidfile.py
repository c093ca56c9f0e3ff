"""The pid file, as arbiters that come and go find it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.waiting import wait_for
from resqued.arbiter.pidfile import PidFile, PidFileError
from resqued.status.chosen import read_pid

HOLD = """
import sys
from resqued.arbiter.pidfile import PidFile
held = PidFile.acquire(sys.argv[1])
print("held", flush=True)
sys.stdin.readline()
held.release()
"""


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "resqued.pid")


@pytest.fixture
def other(path):
    """Another process that holds the pid file, until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def held(path):
    file = PidFile.acquire(path)
    yield file
    file.release()


def test_it_holds_our_pid_while_we_hold_it(path):
    file = PidFile.acquire(path)
    assert Path(path).read_text() == f"{os.getpid()}\n"
    assert read_pid(path) == os.getpid()
    assert not os.get_inheritable(file.fd)
    file.release()
    assert not Path(path).exists()


def test_a_running_arbiter_is_named(path, other):
    with pytest.raises(PidFileError, match=f"already running: .* held by pid {other.pid}") as error:
        PidFile.acquire(path)
    assert error.value.exit_code == 75


def test_a_killed_arbiter_leaves_nothing_in_the_way(path, other):
    other.kill()
    other.wait()
    assert read_pid(path) == other.pid
    PidFile.acquire(path).release()


@pytest.mark.parametrize("content", ["", "garbage", "1\n", f"{os.getppid()}\n", "9" * 50])
def test_what_is_in_an_unlocked_file_does_not_matter(path, content):
    Path(path).write_text(content)
    file = PidFile.acquire(path)
    assert Path(path).read_text() == f"{os.getpid()}\n"
    file.release()


def test_a_child_does_not_keep_the_lock(path):
    file = PidFile.acquire(path)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    file.release()
    again = PidFile.acquire(path)
    again.release()
    child.communicate()


@pytest.mark.parametrize("kind", ["directory", "link", "nowhere"])
def test_a_path_that_cannot_be_is_code_73(tmp_path, kind):
    path = tmp_path / kind
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path = path / "resqued.pid"
    with pytest.raises(PidFileError, match="cannot be created") as error:
        PidFile.acquire(str(path))
    assert error.value.exit_code == 73
    assert not (tmp_path / "elsewhere").exists()


def test_many_starts_at_once_have_one_winner(path):
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(4)
    ]
    try:
        wait_for(
            lambda: len([each for each in starts if each.poll() is not None]) == 3,
            20,
            "three to give up",
        )
        winner = next(each for each in starts if each.poll() is None)
        assert read_pid(path) == winner.pid
    finally:
        for each in starts:
            each.communicate("\n")
    assert not Path(path).exists()


def test_a_removed_file_is_written_again(path, held):
    Path(path).unlink()
    held.check()
    assert read_pid(path) == os.getpid()
    with pytest.raises(PidFileError, match="already running"):
        PidFile.acquire(path)


def test_a_truncated_or_overwritten_file_is_written_again(path, held):
    for content in ("", "1\n", "garbage" * 9):
        Path(path).write_text(content)
        held.check()
        assert Path(path).read_text() == f"{os.getpid()}\n"


def test_a_file_that_became_another_ones_is_left_alone(path):
    ours = PidFile.acquire(path)
    Path(path).unlink()
    theirs = PidFile.acquire(path)
    Path(path).write_text("4711\n")
    ours.check()
    ours.release()
    assert read_pid(path) == 4711
    theirs.release()
    assert not Path(path).exists()


def test_the_lock_is_kept_over_an_exec(path):
    code = """
import os, sys
from resqued.arbiter.pidfile import PidFile, PidFileError
path, fd = sys.argv[1:]
if fd == "-":
    file = PidFile.acquire(path)
    os.set_inheritable(file.fd, True)
    os.execv(sys.executable, [sys.executable, "-c", os.environ["CODE"], path, str(file.fd)])
file = PidFile.adopt(path, int(fd))
try:
    PidFile.acquire(path)
except PidFileError as error:
    print(error)
file.check()
file.release()
print(os.path.exists(path))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, path, "-"],
        env={**os.environ, "CODE": code},
        capture_output=True,
        text=True,
        check=True,
    )
    said, there = done.stdout.splitlines()
    assert said.startswith("already running")
    assert there.strip() == "False"
    assert done.stderr == ""


@pytest.mark.parametrize("content", ["", "x"])
def test_reading_a_file_with_no_pid_in_it(path, content):
    Path(path).write_text(content)
    with pytest.raises(ValueError, match="invalid literal"):
        read_pid(path)
