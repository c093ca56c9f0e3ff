"""The README says what is true: options, exit codes and settings are those of the program."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from resqued.exits import ExitCode

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMAND = Path(sys.executable).parent / "resqued"


def test_the_options_are_those_of_help():
    page = subprocess.run([COMMAND, "--help"], capture_output=True, text=True, cwd="/", check=True)
    assert page.stdout.strip() in README


@pytest.mark.parametrize("code", ExitCode)
def test_every_exit_code_is_there(code):
    assert f"| {int(code)} | {code.meaning} |" in README


def test_its_python_compiles():
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        compile(block, "README.md", "exec")


def test_its_plugin_is_a_plugin(tmp_path):
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "alert.py" in b]
    (tmp_path / "alert.py").write_text(block)
    listed = subprocess.run(
        [COMMAND, "-p", "./alert.py", "--list-plugins"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert "worker_exited" in listed.stdout


def test_its_config_file_is_one(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (block,) = [b for b in blocks if "workers = 32" in b]
    (tmp_path / "resqued.conf.py").write_text(block)
    (tmp_path / "myapp.py").touch()
    checked = subprocess.run([COMMAND, "--check"], capture_output=True, text=True, cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("path", re.findall(r"\]\((examples/[^)]+)\)", README))
def test_what_it_points_to_is_there(path):
    assert (ROOT / path).exists()


def test_its_two_commands_are_there():
    for command in ("examples/demo", "tests/run"):
        assert f"./{command}" in README
        assert (ROOT / command).stat().st_mode & 0o111
