"""examples/supervisord: the program's section, under a real supervisord."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from harness import jobs, processes
from harness.command import COMMAND, environment
from harness.waiting import read_lines, scaled, wait_for, wait_for_exit
from recipes.conftest import EXAMPLES

SECTION = (EXAMPLES / "supervisord" / "resqued.conf").read_text()

FRAME = """
[supervisord]
nodaemon=true
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
[unix_http_server]
file={folder}/socket
[supervisorctl]
serverurl=unix://{folder}/socket
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""


@pytest.fixture
def supervised(programs, valkey, no_process_left):
    """`supervised(config)`: supervisord with the recipe's section; its control command."""
    folder = Path(tempfile.mkdtemp(prefix="resqued-supervisord-"))
    (folder / "app").mkdir()
    started = []

    def start(config=""):
        (folder / "resqued.conf.py").write_text(config)
        text = SECTION.replace("/srv/app/.venv/bin/resqued", COMMAND)
        text = text.replace("/etc/resqued", str(folder)).replace("/srv/app", f"{folder}/app")
        text = text.replace("/var/log", str(folder)).replace("user=app\n", "")
        assert text.count(str(folder)) == 4
        (folder / "conf").write_text(FRAME.format(folder=folder) + text)
        env = environment(
            RQ_REDIS_URL=valkey.url,
            RESQUED_LEDGER=str(folder / "ledger"),
            XDG_RUNTIME_DIR=str(folder),
        )
        started.append(
            subprocess.Popen(
                [programs / "supervisord", "-c", folder / "conf"],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )

        def control(*words):
            done = subprocess.run(
                [programs / "supervisorctl", "-c", folder / "conf", *words],
                capture_output=True,
                text=True,
                timeout=scaled(60),
            )
            return done.stdout

        return folder, control

    yield start
    for each in started:
        each.terminate()
        wait_for_exit(each, 30)
    shutil.rmtree(folder)


def pid_of(control):
    text = control("pid", "resqued").strip()
    return int(text) if text.isdecimal() else 0


def test_its_life_under_supervisord(supervised, queue, gate, ends):
    folder, control = supervised("workers = 2\n")
    log = folder / "resqued.log"
    wait_for(lambda: "RUNNING" in control("status", "resqued"), 30, "it to be up")
    first = pid_of(control)

    control("signal", "HUP", "resqued")
    wait_for(lambda: "gen=2 in service" in log.read_text(), 30, "the reload")
    assert pid_of(control) == first
    control("signal", "USR2", "resqued")
    wait_for(lambda: "gen=3 in service" in log.read_text(), 30, "the re-exec")
    assert pid_of(control) == first
    assert "RUNNING" in control("status", "resqued")

    door = gate()
    held = queue().enqueue(jobs.wait_at, str(door))
    door.wait_until_reached()
    os.kill(first, 9)
    wait_for(lambda: pid_of(control) not in (0, first), 30, "another arbiter")
    door.open()
    ends(held)
    assert len(read_lines(folder / "ledger")) == 2, "a start and an end: it ran once"
    wait_for(lambda: "RUNNING" in control("status", "resqued"), 30, "it to be up again")

    door = gate()
    held = queue().enqueue(jobs.wait_at, str(door))
    door.wait_until_reached()
    arbiter = pid_of(control)
    stopping = threading.Thread(target=control, args=("stop", "resqued"))
    stopping.start()
    wait_for(lambda: "STOPPING" in control("status", "resqued"), 20, "the drain to begin")
    assert processes.alive(arbiter)
    door.open()
    ends(held)
    stopping.join(scaled(30))
    assert "STOPPED" in control("status", "resqued")
    assert "put back" not in log.read_text().partition("drain")[2]


def test_a_wrong_configuration_ends_in_fatal(supervised):
    folder, control = supervised("worker = 2\n")
    over = ("EXITED", "FATAL")  # by how long it took to find out
    wait_for(lambda: control("status", "resqued").split()[1] in over, 60, "it to be given up")
    assert "did you mean workers" in (folder / "resqued.log").read_text().lower()
