"""The recipes in examples/, each as its README says, with the real libraries and services.

The libraries are the dependency group `recipes` of pyproject.toml, in an environment of its own
that is made once: most of the tests run without them, and none of them is needed by resqued.
"""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from benchmarks.environments import made
from harness.command import TESTS, environment
from harness.needs import missing
from harness.postgres import Postgres
from harness.waiting import scaled, wait_for

EXAMPLES = TESTS.parent / "examples"


@pytest.fixture(scope="session")
def programs() -> Path:
    """The `bin` of the environment with the libraries of all recipes."""
    project = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())
    packages = [*project["dependency-groups"]["recipes"]]
    packages += [f"{name}=={version(name)}" for name in ("rq", "redis")]
    try:
        return made(".venv-recipes", "-e", ".", *packages)
    except SystemExit as error:
        missing("the environment of the recipes", str(error))


@pytest.fixture
def call(programs: Path, tmp_path: Path) -> Callable[..., str]:
    """`call("python", "manage.py", "migrate", cwd=..., PGHOST=...)`: run a program of that
    environment to its end; what it prints. It must leave with 0."""

    def call(name: str, *words: object, cwd: Path = tmp_path, code: int = 0, **env: str) -> str:
        done = subprocess.run(
            [str(programs / name), *map(str, words)],
            cwd=cwd,
            env=environment(**env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=scaled(60),
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    return call


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """A server with an empty database. To be asked for before `resqued`."""
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def ends(connection) -> Callable[..., object]:
    """`ends(job)`: wait until it has finished, and give its result; or with another status."""

    def ends(job, status="finished", timeout=20):
        over = {status, "finished", "failed", "stopped", "canceled"}
        wait_for(lambda: job.get_status() in over, timeout, f"the end of {job.func_name}")
        result = job.latest_result()
        assert job.get_status() == status, result and result.exc_string
        return job.return_value() if status == "finished" else None

    return ends
