"""The built-in plugin `systemd`, with a socket of the test in the place of the service manager."""

from __future__ import annotations

import os
import socket
import tempfile

import pytest

from harness.waiting import wait_for
from resqued.plugins.registry import load_plugins


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
    manager.wait_for("STATUS=2/2 workers, 0 busy")
    assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in manager.lines())
    arbiter.signal("HUP")
    manager.wait_for("RELOADING=1")
    manager.wait_for("MONOTONIC_USEC=")
    manager.wait_for("READY=1", times=2)
    assert arbiter.stop("QUIT") == 0
    manager.wait_for("STOPPING=1")
    manager.wait_for("STATUS=draining")


def test_a_refused_reload_is_ready_again_with_the_refusal(resqued, manager):
    arbiter = resqued(
        "-n", 1, config="workers = 1", NOTIFY_SOCKET=manager.path, expect_errors="reload failed"
    )
    manager.wait_for("READY=1")
    (arbiter.directory / "resqued.conf.py").write_text("workers = 'many'")
    arbiter.signal("HUP")
    manager.wait_for("READY=1", times=2)
    manager.wait_for("STATUS=1/1 workers, 0 busy; reload refused: ")


def test_it_is_ready_without_redis_and_says_so(resqued, manager):
    resqued("-n", 1, "--redis", "unix:///nowhere/at/all", NOTIFY_SOCKET=manager.path)
    manager.wait_for("STATUS=0/1 workers, 0 busy; Redis does not answer", timeout=30)
    manager.wait_for("READY=1", timeout=30)


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
