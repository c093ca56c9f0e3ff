"""`resqued --new-plugin NAME`: what it writes works as it is, and nothing else is touched."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from harness.command import run
from harness.public import uses_of_what_is_private
from harness.waiting import scaled

ROOT = Path(__file__).parent.parent
INSTALL = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")


def python(*words: object, cwd: Path, path: Path | None = None) -> str:
    """Run Python to its end; what it prints."""
    env = {"PATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env=env if path is None else {**env, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        timeout=scaled(90),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_new_plugin_installs_passes_its_tests_and_is_listed(tmp_path):
    """With a name of two words, as the package, the module, the option and the setting have it."""
    status, out, err = run("--new-plugin", "tea-time", cwd=tmp_path)
    assert (status, err) == (0, "")
    package, site = tmp_path / "resqued-tea-time", tmp_path / "site"
    files = sorted(str(each.relative_to(tmp_path)) for each in package.rglob("*.*"))
    assert files == sorted(line for line in out.splitlines() if line.startswith("resqued-"))
    assert len(files) == 5

    python(*INSTALL, "--target", site, package, cwd=tmp_path)
    status, listed, err = run("--list-plugins", cwd=tmp_path, PYTHONPATH=str(site))
    assert (status, err) == (0, "")
    assert "  tea-time         resqued-tea-time 0.1.0 (entry point)\n" in listed
    assert "3 passed" in python("-m", "pytest", "-p", "no:cacheprovider", cwd=package, path=site)


def test_what_it_writes_is_formatted_typed_and_uses_nothing_private(tmp_path):
    """By the defaults of ruff and with strict types."""
    assert run("--new-plugin", "tea", cwd=tmp_path)[0] == 0
    package = tmp_path / "resqued-tea"
    python("-m", "ruff", "check", "--no-cache", "--select", "E,F,I,UP,B", ".", cwd=package)
    python("-m", "ruff", "format", "--no-cache", "--check", ".", cwd=package)
    cache = ("--cache-dir", tmp_path / "mypy")
    python("-m", "mypy", "--strict", *cache, "resqued_tea.py", cwd=package)
    for path in package.rglob("*.py"):
        assert uses_of_what_is_private(path.read_text()) == []


def test_nothing_is_overwritten(tmp_path):
    """A folder, a file or a link of its name stays as it is, and nothing is written into it."""
    folder, file, link = (tmp_path / f"resqued-{each}" for each in ("folder", "file", "link"))
    folder.mkdir()
    file.write_text("mine")
    link.symlink_to("nowhere")
    for name in ("folder", "file", "link"):
        status, out, err = run("--new-plugin", name, cwd=tmp_path)
        assert (status, out) == (73, "")
        assert f"resqued-{name} exists already; nothing is overwritten" in err
    assert list(folder.iterdir()) == []
    assert file.read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_the_template_is_in_the_wheel(tmp_path):
    """A wheel has every file of the checkout's `resqued/`, what is no Python among them."""
    python("-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    files = {str(each.relative_to(ROOT)) for each in (ROOT / "resqued").rglob("*.*")}
    assert "resqued/command/template/tests/conftest.py.txt" in packed
    assert {each for each in files if "__pycache__" not in each} - packed == set()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--new-plugin", "Tea"], "small letters, digits, and - between words"),
        (["--new-plugin", "../tea"], "small letters, digits, and - between words"),
        (["--new-plugin", "resqued-tea"], "leave out resqued, which is put before it; write tea"),
        (["--new-plugin", "shares"], "is a plugin that is there already (built in)"),
        (["--new-plugin", "queue"], "--queue is a flag of resqued itself"),
        (["--new-plugin", "tea", "--kettle"], "no such option '--kettle'"),
        (["--new-plugin"], "requires an argument"),
    ],
)
def test_a_name_that_cannot_be_is_refused(tmp_path, words, told):
    status, out, err = run(*words, cwd=tmp_path)
    assert (status, out) == (64, "")
    assert told in err
    assert list(tmp_path.iterdir()) == []
