"""In the background of a terminal that stops whoever writes to it (`stty tostop`)."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import termios
import threading
from pathlib import Path

import psutil
import pytest

from harness import command
from harness.processes import cpu_of
from harness.waiting import scaled, stays_true, wait_for

APP = """
def prints():
    print("said by the job", flush=True)
"""
CONFIG = """
def tick(arbiter):
    print("said by a plugin", flush=True)
"""


@pytest.fixture
def background(tmp_path, valkey, no_process_left):
    """`background(*arguments)`: the pid of an arbiter there, and what the terminal has shown."""
    shown = bytearray()
    shells: list[tuple[int, int, threading.Thread]] = []

    def start(*arguments: str) -> tuple[int, bytearray]:
        words = [command.COMMAND, *arguments, "--pid", str(tmp_path / "pid")]
        env = command.environment(RQ_REDIS_URL=valkey.url)
        shell, terminal = pty.fork()
        if shell == 0:
            _be_the_shell(words, env, tmp_path)
        reader = threading.Thread(target=_read, args=(terminal, shown))
        reader.start()
        shells.append((shell, terminal, reader))
        wait_for(lambda: (tmp_path / "pid").exists() and _pid(tmp_path), 20, "a pid file")
        return _pid(tmp_path), shown

    yield start
    for shell, terminal, reader in shells:
        for process in psutil.Process(shell).children():
            process.kill()  # only when the test has failed
        os.waitpid(shell, 0)
        reader.join(scaled(10))
        os.close(terminal)


def _be_the_shell(words: list[str], env: dict[str, str], directory: Path) -> None:
    """Stays in the foreground; what it starts is a process group of the background."""
    try:
        os.chdir(directory)
        mode = termios.tcgetattr(0)
        mode[3] |= termios.TOSTOP
        termios.tcsetattr(0, termios.TCSANOW, mode)
        subprocess.Popen(words, env=env, process_group=0).wait()
    finally:
        os._exit(0)


def _read(terminal: int, shown: bytearray) -> None:
    with contextlib.suppress(OSError):  # the last one who had it open has left
        while chunk := os.read(terminal, 65536):
            shown.extend(chunk)


def _pid(directory: Path) -> int:
    return int((directory / "pid").read_text() or 0)


def test_it_neither_stops_nor_spins_nor_takes_it_for_fewer_workers(background, tmp_path, queue):
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "resqued.conf.py").write_text(CONFIG)
    arbiter, shown = background("-n", "2", "-r", "app")
    wait_for(lambda: shown.count(b" ready, queues") == 2, 20, "the workers to be ready")
    job = queue().enqueue("app.prints")
    wait_for(lambda: job.get_status(refresh=True) == "finished", 15, "a job that prints")
    wait_for(lambda: b"said by the job" in shown, 10, "what the job has printed")
    wait_for(lambda: shown.count(b"said by a plugin") > 2, 10, "what the plugin prints")
    before = cpu_of(arbiter)
    stays_true(lambda: cpu_of(arbiter) - before < 0.5, 1, "its loop sleeps")
    code, status, _ = command.run("--status", "--pid", "pid", cwd=tmp_path, RESQUED_CONFIG="")
    assert code == 0
    assert "2/2" in status or "2 workers" in status, status
    os.kill(arbiter, signal.SIGTERM)
    wait_for(lambda: not psutil.pid_exists(arbiter), 15, "the arbiter to leave")
    wait_for(lambda: b"bye, exit code 0" in shown, 10, "its last line")
