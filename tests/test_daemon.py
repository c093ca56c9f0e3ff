"""Going into the background: what the waiting command says, prints and leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from harness import processes
from harness.waiting import scaled, wait_for


@pytest.fixture
def start(tmp_path):
    """Run a script that daemonizes: (exit status, output, error) of the command that waited.

    The script gets `announcer`; it ends, or is killed at the end.
    """
    processes.become_subreaper()
    before = {child.pid for child in processes.descendants()}

    def run(script: str):
        code = "import os, signal, sys, time\nfrom resqued.daemon import daemonize\n"
        code += "before = os.getpid()\nannouncer = daemonize()\n"
        code += "open('pid', 'w').write(str(os.getpid()))\n" + textwrap.dedent(script)
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            capture_output=True,  # read to its end: nothing of the daemon may hold it open
            text=True,
            timeout=scaled(20),
            start_new_session=True,
        )
        return done.returncode, done.stdout, done.stderr

    yield run
    for process in processes.descendants():
        if process.pid not in before:
            process.kill()

    def nothing_left():
        processes.reap_adopted(keep=set())
        return not [each for each in processes.descendants() if each.pid not in before]

    wait_for(nothing_left, 10, "everything to have left")


def test_ready_ends_the_waiting_command_with_0(start, tmp_path):
    script = "announcer.announce(None)\nannouncer.announce(70, 'too late')\ntime.sleep(60)"
    assert start(script) == (0, "", "")
    pid = int((tmp_path / "pid").read_text())
    assert processes.alive(pid)
    assert os.getsid(pid) not in (pid, os.getsid(0))
    assert psutil.Process(pid).terminal() is None
    assert psutil.Process(pid).cwd() == str(tmp_path)
    leads_to = {fd: str(Path(f"/proc/{pid}/fd/{fd}").readlink()) for fd in (0, 1, 2)}
    assert set(leads_to.values()) == {"/dev/null"}


def test_a_warning_is_printed_and_still_0(start):
    assert start("announcer.announce(None, 'Redis does not answer')") == (
        0,
        "",
        "Redis does not answer\n",
    )


def test_an_error_comes_with_its_code(start):
    assert start("announcer.announce(75, 'already running')") == (75, "", "already running\n")


@pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_daemon_that_ends_without_a_word_is_a_failure(start, end):
    code, _, error = start(end)
    assert code == 70
    assert "ended before it was ready" in error


def test_a_long_message_is_cut(start):
    code, _, error = start("announcer.announce(78, 'x' * 100_000)")
    assert code == 78
    assert 1000 < len(error) < 5000


def test_nobody_has_to_wait_for_it(start, tmp_path):
    code = """
    open("started", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.01)
    announcer.announce(None, "nobody hears this")
    open("went on", "w").close()
    """
    script = "import os, time\nfrom resqued.daemon import daemonize\nannouncer = daemonize()\n"
    waiting = subprocess.Popen(
        [sys.executable, "-c", script + textwrap.dedent(code)],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
    )
    wait_for((tmp_path / "started").exists, 10, "the daemon to start")
    waiting.send_signal(signal.SIGTERM)
    waiting.wait()
    Path(tmp_path / "go").touch()
    wait_for((tmp_path / "went on").exists, 10, "the daemon to go on")
