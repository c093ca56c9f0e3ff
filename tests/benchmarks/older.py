"""Release 0.1 beside this checkout: built from the repository's own history.

It has no tag. 0.1 is what stood before work began on what the field does to it: with claims,
owners and the steward, and seven round trips a job.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from importlib.metadata import version
from pathlib import Path

from benchmarks.environments import HERE, ROOT, alone, made

NAME = "resqued 0.1"
COMMIT = "7ec503d92d5320644c9741a29a8a4a8b1a171202"
_PACKAGES = ("rq", "redis", "pluggy", "click", "loguru", "setproctitle")


def command() -> Path:
    """The `resqued` of 0.1, with the versions of rq, redis and the others that are installed here.

    Raises SystemExit where the history is not there, as in a shallow clone.
    """
    pins = [f"{name}=={version(name)}" for name in _PACKAGES]
    return made(".venv-0.1", str(_source()), *pins) / "resqued"


def _source() -> Path:
    with alone(Path(__file__)):
        return _extracted(HERE / ".venv-0.1-source")


def _extracted(directory: Path) -> Path:
    if not directory.is_dir():
        archive = subprocess.run(["git", "archive", COMMIT], cwd=ROOT, capture_output=True)
        if archive.returncode:
            raise SystemExit(
                f"{NAME} is commit {COMMIT[:7]}, which this clone does not have "
                f"({archive.stderr.decode().strip()}); git fetch --unshallow brings it, "
                "--alone measures without it"
            )
        directory.mkdir()
        (directory / ".gitignore").write_text("*\n")
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(directory, filter="data")
        (directory / ".gitignore").write_text("*\n")
    return directory
