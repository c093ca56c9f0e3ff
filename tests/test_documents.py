"""The documents say what is true: generated parts, links, file names, examples in them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import reference
from resqued.signal_table import TABLE, InArbiter

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = [
    *(ROOT / "README.md", ROOT / ".github/CONTRIBUTING.md", ROOT / "plugins/README.md"),
    *ROOT.glob("examples/*/README.md"),
    *ROOT.glob("resqued/*.md"),
]
COMMAND = Path(sys.executable).parent / "resqued"


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("resqued/CONFIGURATION.md", marks=pytest.mark.processes),  # runs `--help`
        "plugins/README.md",
        "resqued/HOOKS.md",
        "resqued/OPERATIONS.md",
    ],
)
def test_generated_parts_are_as_they_would_be_generated(path):
    assert (ROOT / path).read_text() == reference.render(path), "run python tests/reference.py"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(document):
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text()):
        if target.startswith("https://"):
            continue
        path, _, heading = target.partition("#")
        there = (document.parent / path).resolve() if path else document
        assert there.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.+)$", there.read_text(), re.MULTILINE)
            assert heading in [_anchor(each) for each in headings], target


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _files_named(text: str) -> set[str]:
    """Paths in backquotes that look like files or folders of the project."""
    named = re.findall(r"`([\w./-]+)`", text)
    return {each for each in named if "/" in each or each.endswith((".py", ".lua", ".md", ".toml"))}


@pytest.mark.parametrize("name", ["resqued/ARCHITECTURE.md", ".github/CONTRIBUTING.md"])
def test_files_that_a_guide_names_exist(name):
    """As they are named: from the root of the project, or from `resqued/`."""
    named = _files_named((ROOT / name).read_text())
    assert len(named) > 10
    missing = {
        each
        for each in named
        if not any((base / each).exists() for base in (ROOT, ROOT / "resqued"))
    }
    assert missing == set()


def test_every_room_and_every_module_beside_them_is_in_the_architecture():
    named = _files_named((ROOT / "resqued/ARCHITECTURE.md").read_text())
    rooms = {f"{path.parent.name}/" for path in (ROOT / "resqued").glob("*/__init__.py")}
    modules = {path.name for path in (ROOT / "resqued").glob("[a-z]*.py")}
    assert (rooms | modules) - named == set()


def test_every_signal_of_the_arbiter_is_in_the_tables():
    steering = [row.name for row in TABLE if row.arbiter not in (InArbiter.WAKE, InArbiter.DEFAULT)]
    for document in ("README.md", "resqued/OPERATIONS.md"):
        text = (ROOT / document).read_text()
        rows = re.findall(r"^\| ([A-Z0-9, ]+) \|", text, re.MULTILINE)
        named = {name for row in rows for name in row.split(", ")}
        assert set(steering) <= named, document


@pytest.mark.parametrize("path", ["README.md", "plugins/README.md"])
def test_its_python_compiles(path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / path).read_text(), re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        compile(block, path, "exec")


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


def test_its_two_commands_are_there():
    for command in ("examples/demo", "tests/run"):
        assert f"./{command}" in README
        assert (ROOT / command).stat().st_mode & 0o111
