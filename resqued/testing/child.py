"""Start a program that does not outlive the test run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_START: Final = (
    "import os, signal, sys; from resqued import linux;"
    " linux.set_parent_death_signal(signal.SIGKILL); os.execv(sys.argv[1], sys.argv[1:])"
)


def start(
    words: Sequence[str],
    *,
    output: Path,
    directory: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own. It is killed if the thread that started it ends.

    words: the path of the program, and its arguments. output: where what it prints is added.
    """
    with output.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-c", _START, *words],
            cwd=directory,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
