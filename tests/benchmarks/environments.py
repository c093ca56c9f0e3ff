"""Virtual environments of what is measured beside this checkout, made once and kept beside this
file; git does not see them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def made(name: str, *packages: str) -> Path:
    """The `bin` of the environment, with this Python and these packages.

    Raises SystemExit if they cannot be installed; pip has then said why.
    """
    directory = HERE / name
    script = '. .ci/venv.sh; make_venv "$@"'
    words = ["bash", "-euc", script, "make_venv", str(directory), sys.executable, *packages]
    with alone(Path(__file__)):
        done = subprocess.run(words, cwd=ROOT, env=_plain())
    if done.returncode:
        raise SystemExit(f"{directory.relative_to(ROOT)} could not be made; see above")
    return directory / "bin"


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """While no other process is: tests run side by side. path: a file that is locked for it."""
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def versions(bin_: Path, names: list[str]) -> str:
    """`huey 3.3.0, arq 0.28.0`: of packages that the environment has."""
    script = "import sys; from importlib.metadata import version; "
    script += "print(', '.join(f'{name} {version(name)}' for name in sys.argv[1:]))"
    words = [str(bin_ / "python"), "-c", script, *names]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def _plain() -> dict[str, str]:
    """Without what makes the new environment look like this one's."""
    hidden = ("PYTHON", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
