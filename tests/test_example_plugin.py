"""The example plugin: really installed, found by its entry point, and run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.command import run
from harness.public import uses_of_what_is_private
from harness.waiting import scaled

EXAMPLE = Path(__file__).parent.parent / "examples" / "resqued-statsd"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the plugin installed by pip, built from a copy of its source."""
    folder = tmp_path_factory.mktemp("example")
    source = shutil.copytree(EXAMPLE, folder / "source")
    words = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    words += ["--disable-pip-version-check", "--target", str(folder / "site"), str(source)]
    pip = [sys.executable, "-m", "pip", *words]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=scaled(120))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


def listing(site: Path, cwd: Path, *arguments: str) -> str:
    status, out, err = run(*arguments, "--list-plugins", cwd=cwd, PYTHONPATH=str(site))
    assert (status, err) == (0, "")
    return out


def test_it_is_found_by_its_entry_point_from_any_directory(site, tmp_path):
    out = listing(site, tmp_path, "-p", "statsd")
    assert (
        "  statsd           resqued-statsd 0.3.0 (-p statsd)\n"
        "                   add_options, configure, tick, worker_exited, after_job\n"
    ) in out
    assert "resqued-statsd 0.3.0 (entry point)" in listing(site, tmp_path)


def test_from_its_own_source_it_is_the_same_plugin(site):
    assert "resqued-statsd 0.3.0 (-p statsd)" in listing(site, EXAMPLE, "-p", "statsd")


@pytest.mark.parametrize("name", ["statsd", "resqued_statsd", "resqued-statsd"])
def test_it_can_be_blocked(site, tmp_path, name):
    lines = listing(site, tmp_path, "-p", f"no:{name}").splitlines()
    [line] = [line for line in lines if line.startswith("- statsd")]
    assert line.startswith("- statsd           resqued-statsd 0.3.0 (entry point); blocked by")


def test_its_options_are_options_of_the_command(site, tmp_path):
    status, out, _ = run("--help", cwd=tmp_path, PYTHONPATH=str(site))
    assert status == 0
    assert "--statsd-host" in out
    status, _, err = run("--check", "--statsd-host", "here", cwd=tmp_path, PYTHONPATH=str(site))
    assert status == 78
    assert "write HOST:PORT" in err


def test_its_own_tests_pass_where_it_is_installed(site, tmp_path):
    """With its real `resqued`, which sends over UDP what its worker does."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLE / "tests")],
        cwd=tmp_path,
        env={"PATH": "", "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=scaled(60),
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_uses_nothing_private():
    """The plugin and its tests import only `resqued` and `resqued.testing`, by public names."""
    for path in EXAMPLE.rglob("*.py"):
        assert uses_of_what_is_private(path.read_text()) == []
