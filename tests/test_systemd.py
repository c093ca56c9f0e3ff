"""The built-in plugin `systemd`, with a socket of the test in the place of the service manager."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from harness import needs
from harness.command import BIN
from harness.waiting import wait_for
from resqued import WorkerState
from resqued.plugins.registry import load_plugins
from resqued.testing import FakeArbiter, make_redis_facts, make_worker
from resqued_plugins.systemd import ArbiterProgress, describe


class Manager:
    """The service manager's side of sd_notify(3)."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(path)
        self._socket.setblocking(False)
        self.told: list[str] = []

    def lines(self) -> list[str]:
        """All that it was told so far."""
        while True:
            try:
                self.told += self._socket.recv(65536).decode().splitlines()
            except BlockingIOError:
                return self.told

    def wait_for(self, line: str, timeout: float = 15, times: int = 1) -> None:
        wait_for(
            lambda: sum(each.startswith(line) for each in self.lines()) >= times,
            timeout,
            f"{line} among {self.told}",
        )

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager():
    with tempfile.TemporaryDirectory(prefix="resqued-sd-") as folder:
        manager = Manager(f"{folder}/notify")
        yield manager
        manager.close()


def test_a_start_a_reload_and_a_stop_are_told(resqued, manager):
    arbiter = resqued("-n", 2, NOTIFY_SOCKET=manager.path)
    manager.wait_for("READY=1")
    manager.wait_for("STATUS=2/2 workers, 0 busy, redis ok")
    assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in manager.lines())
    arbiter.signal("HUP")
    manager.wait_for("RELOADING=1")
    manager.wait_for("MONOTONIC_USEC=")
    manager.wait_for("READY=1", times=2)
    assert arbiter.stop("QUIT") == 0
    manager.wait_for("STOPPING=1")
    manager.wait_for("STATUS=draining")


def test_a_reload_by_a_verb_is_told_too(resqued, manager):
    arbiter = resqued("-n", 1, NOTIFY_SOCKET=manager.path)
    manager.wait_for("READY=1")
    assert arbiter.control("reload", "--wait").returncode == 0
    manager.wait_for("READY=1", times=2)
    told = [line for line in manager.lines() if line in ("READY=1", "RELOADING=1")]
    assert told == ["READY=1", "RELOADING=1", "READY=1"]
    manager.wait_for("MONOTONIC_USEC=")


def test_a_signal_that_another_plugin_deals_with_is_ready_again(resqued, manager):
    config = "def signal_received(signame): return signame == 'HUP' or None"
    arbiter = resqued("-n", 1, config=config, NOTIFY_SOCKET=manager.path)
    manager.wait_for("READY=1")
    arbiter.signal("HUP")
    manager.wait_for("RELOADING=1")
    manager.wait_for("READY=1", times=2)


def test_a_drain_asks_for_time_while_jobs_are_within_theirs(resqued, manager, queue, gate):
    held = gate()
    queue().enqueue("harness.jobs.wait_at", str(held))
    arbiter = resqued("-n", 1, NOTIFY_SOCKET=manager.path)
    held.wait_until_reached()
    manager.wait_for("READY=1")
    arbiter.signal("QUIT")
    manager.wait_for("STOPPING=1")
    before = sum(line.startswith("EXTEND_TIMEOUT_USEC=") for line in manager.lines())
    manager.wait_for("EXTEND_TIMEOUT_USEC=", times=before + 1, timeout=30)
    held.open()
    assert arbiter.exit() == 0


def test_what_makes_progress():
    now = time.monotonic()
    progress = ArbiterProgress()
    idle, without_limit = make_worker(), make_worker(job_id="j", timeout=None)
    within = make_worker(job_id="j", timeout=100.0, job_started=now)
    beyond = make_worker(job_id="j", timeout=1.0, job_started=now - 1000)

    def goes_on(*workers, **facts):
        arbiter = FakeArbiter(workers=workers, **facts)
        progress.since_last(arbiter, now)  # what is new counts once
        return progress.since_last(arbiter, now)

    assert goes_on(idle, within, state="draining")
    assert not goes_on(without_limit, beyond, state="draining")
    assert goes_on()  # the first fork server loads the application
    assert goes_on(idle, reloading=True)
    assert not goes_on(idle)
    assert progress.since_last(FakeArbiter(workers=[make_worker(jobs=1)]), now)


def test_a_refused_reload_is_ready_again_with_the_refusal(resqued, manager):
    arbiter = resqued(
        "-n", 1, config="workers = 1", NOTIFY_SOCKET=manager.path, expect_errors="reload failed"
    )
    manager.wait_for("READY=1")
    (arbiter.directory / "resqued.conf.py").write_text("workers = 'many'")
    arbiter.signal("HUP")
    manager.wait_for("READY=1", times=2)
    manager.wait_for("STATUS=1/1 workers, 0 busy, redis ok; reload refused: ")


def test_it_is_ready_without_redis_and_says_so(resqued, manager):
    resqued("-n", 1, "--redis", "unix:///nowhere/at/all", NOTIFY_SOCKET=manager.path)
    manager.wait_for("STATUS=0/1 workers, 0 busy, redis does not answer", timeout=30)
    manager.wait_for("READY=1", timeout=30)


@pytest.mark.parametrize(
    "redis, told",
    [
        (make_redis_facts(answers=True), "0/1 workers, 0 busy, redis ok"),
        (make_redis_facts(answers=False), "0/1 workers, 0 busy, redis does not answer"),
        (None, "0/1 workers, 0 busy"),
    ],
)
def test_a_worker_that_connects_just_now_says_nothing_of_redis(redis, told):
    connecting = make_worker(state=WorkerState.CONNECTING)
    assert describe(FakeArbiter(workers=[connecting], redis=redis)) == told


def test_the_watchdog_is_fed_while_the_loop_turns(resqued, manager):
    arbiter = resqued("-n", 1, NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="2000000")
    manager.wait_for("WATCHDOG=1", times=3)
    arbiter.signal("USR2")
    arbiter.wait_for("re-exec done", timeout=30)
    before = sum(line == "WATCHDOG=1" for line in manager.lines())
    manager.wait_for("WATCHDOG=1", times=before + 2)


def test_the_application_does_not_see_the_variables(resqued, manager):
    app = """
        import os
        seen = [name for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC") if name in os.environ]
        print("the application sees", seen, flush=True)
    """
    arbiter = resqued("-r", "app", app=app, NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="60000000")
    arbiter.wait_for(r"the application sees \[\]")
    manager.wait_for("READY=1")


def test_without_the_variable_it_is_only_installed():
    assert "NOTIFY_SOCKET" not in os.environ
    plugins = load_plugins([])
    assert {each.name: each.status for each in plugins.found}["systemd"] == "idle"


EXAMPLE = Path(__file__).parent.parent / "examples" / "resqued.service"


@pytest.fixture
def unit(tmp_path):
    """The example of a service file, with this checkout's programs."""
    text = EXAMPLE.read_text().replace("/srv/app/.venv/bin", str(BIN))
    path = tmp_path / "resqued.service"
    path.write_text(text)
    return path


def analyze(*words: object) -> str:
    program = needs.program("systemd-analyze", "systemd")
    done = subprocess.run(
        [program, *map(str, words), "--no-pager"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_systemd_has_nothing_to_say_of_the_service_file(unit):
    assert analyze("verify", unit) == ""


def test_systemd_finds_the_service_little_exposed(unit):
    found = analyze("security", "--offline=true", unit)
    level = re.search(r"exposure level for resqued\.service: ([\d.]+)", found)
    assert level is not None, found
    assert float(level[1]) < 2.0, found


def test_systemd_has_nothing_to_say_of_the_drop_in(unit):
    version = int(analyze("--version").split()[1])
    if version < 253:
        pytest.skip(f"systemd {version} has no notify-reload")
    folder = unit.with_name("resqued.service.d")
    shutil.copytree(EXAMPLE.with_name("resqued.service.d"), folder)
    assert analyze("verify", unit) == ""
