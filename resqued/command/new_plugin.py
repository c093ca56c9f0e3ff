"""`--new-plugin NAME`: write a package for a plugin, with its tests, into a folder of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

import click

import resqued
from resqued.config import SETTINGS
from resqued.exits import ExitCode, Problem, refuse
from resqued.plugins import candidates
from resqued.settings import command_line

_FILES: Final = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "module.py": "resqued_$word.py",
    "tests/conftest.py": "tests/conftest.py",
    "tests/test_plugin.py": "tests/test_$word.py",
}
"""The files of the template, and what they are called in the package."""

_NEXT: Final = """\
Next:
  cd {folder}
  pip install -e '.[test]'
  pytest
  resqued --list-plugins"""


def run(name: str, argv: Sequence[str]) -> int:
    """Write the package below the working directory, and print what to do with it.

    argv: the command line, which must have no flag that does not exist. Returns the exit status.
    Raises InvalidSettings: nothing that exists is written to.
    """
    try:
        command_line.parse(argv)
    except click.UsageError as error:
        text = error.format_message()
        refuse([Problem(text[:1].lower() + text[1:], ExitCode.USAGE)])
    if problem := problem_of(name):
        refuse([Problem(f"--new-plugin: {problem}", ExitCode.USAGE)])
    folder = Path(f"resqued-{name}")
    try:
        written = write(name, folder)
    except FileExistsError:
        text = f"--new-plugin: {folder} exists already; nothing is overwritten"
        refuse([Problem(text, ExitCode.CANNOT_CREATE)])
    except OSError as error:
        text = f"--new-plugin: {error.filename or folder}: {error.strerror}"
        refuse([Problem(text, ExitCode.CANNOT_CREATE)])
    else:
        print(*written, _NEXT.format(folder=folder), sep="\n")
    return ExitCode.OK


def problem_of(name: str) -> str:
    """Why a plugin cannot be called so; empty if it can."""
    shown = repr(name)
    if name.startswith(("resqued-", "resqued_")):
        return f"{shown}: leave out resqued, which is put before it; write {name[8:]}"
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        return f"{shown} is no name of a plugin: small letters, digits, and - between words"
    for candidate in candidates.find([], autoload=False).installed:
        if candidate.name == name:
            return f"{shown} is a plugin that is there already ({candidate.package})"
    flags = {flag for setting in SETTINGS.values() for flag in (*setting.flags, setting.off)}
    if f"--{name}" in flags:
        return f"{shown}: --{name} is a flag of resqued itself"
    return ""


def write(name: str, folder: Path) -> list[Path]:
    """Write the package into a folder, which must not exist; the files, in order.

    Raises FileExistsError, OSError.
    """
    words = {
        "name": name,
        "word": name.replace("-", "_"),
        "upper": name.replace("-", "_").upper(),
        "resqued": resqued.__version__,
    }
    template = files("resqued.command") / "template"
    folder.mkdir()
    (folder / "tests").mkdir()
    written = []
    for source, target in _FILES.items():
        text = (template / f"{source}.txt").read_text()
        path = folder / Template(target).substitute(words)
        with path.open("x") as file:
            file.write(Template(text).substitute(words))
        written.append(path)
    return written
