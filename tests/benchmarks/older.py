"""Release 0.1 beside this checkout: built from the archive beside this file.

It is what stood before work began on what the field does to it: with claims, owners and the
steward, and seven round trips a job. As an archive, since a clone need not have the history: `git
archive 7ec503d resqued plugins pyproject.toml README.md LICENSE | xz`.
"""

from __future__ import annotations

import tarfile
from importlib.metadata import version
from pathlib import Path

from benchmarks.environments import HERE, alone, made

NAME = "resqued 0.1"
ARCHIVE = HERE / "resqued-0.1.tar.xz"
_PACKAGES = ("rq", "redis", "pluggy", "click", "loguru", "setproctitle")


def command() -> Path:
    """The `resqued` of 0.1, beside rq, redis and others in the versions that are here."""
    pins = [f"{name}=={version(name)}" for name in _PACKAGES]
    return made(".venv-0.1", str(_source()), *pins) / "resqued"


def _source() -> Path:
    """Where it is unpacked."""
    directory = HERE / ".venv-0.1-source"
    with alone(Path(__file__)):
        if not directory.is_dir():
            directory.mkdir()
            with tarfile.open(ARCHIVE) as files:
                files.extractall(directory, filter="data")
            (directory / ".gitignore").write_text("*\n")
    return directory
