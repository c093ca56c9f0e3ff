"""The recipes in examples/, each as its README says, with the real libraries and services.

The libraries are the dependency group `recipes` of pyproject.toml, in an environment of its own
that is made once: most of the tests run without them, and none of them is needed by resqued.
"""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.environments import made
from harness.command import BIN, TESTS, Resqued, environment
from harness.needs import missing
from harness.postgres import Postgres
from harness.waiting import scaled, wait_for

EXAMPLES = TESTS.parent / "examples"
SCHEMAS = TESTS / "recipes" / "schemas"

CONTAINED = ("unshare", "-rpf", "--kill-child", "--mount-proc")
"""In a PID namespace of its own, as process 1, as in a container."""

_LOAD = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))"
_CHECK = """
import json, sys
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
schema, document = map(json.loads, sys.stdin.read().splitlines())
Draft202012Validator.check_schema(schema)
if error := best_match(Draft202012Validator(schema).iter_errors(document)):
    sys.exit(f"{error.json_path}: {error.message}")
"""


class Container:
    """A resqued that is process 1, and what `docker exec` or `kubectl exec` would run beside it."""

    def __init__(self, outside: Resqued) -> None:
        self.outside = outside
        children = psutil.Process(outside.pid).children
        (self.inside,) = wait_for(children, what="process 1")

    def exec(self, *words: str) -> subprocess.CompletedProcess[str]:
        enter = ["nsenter", "-t", str(self.inside.pid), "-U", "-p", "-m", "--preserve-credentials"]
        return subprocess.run(
            [*enter, "--", str(BIN / words[0]), *words[1:]],
            env=self.outside.env,
            capture_output=True,
            text=True,
            timeout=scaled(120),
            stdin=subprocess.DEVNULL,
        )

    def signal(self, name: str) -> None:
        self.outside.signal(name, pid=self.inside.pid)


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


@pytest.fixture
def container(resqued) -> Callable[..., Container]:
    """`container(["resqued", "-n", "2"], app=...)`: what an image's command would start."""

    def start(words, **how):
        assert words[0] == "resqued"
        return Container(resqued(*words[1:], under=CONTAINED, **how))

    return start


@pytest.fixture
def documents(programs) -> Callable[[Path], list[Any]]:
    """The documents in a YAML file."""

    def load(path):
        words = [programs / "python", "-c", _LOAD]
        done = subprocess.run(words, input=path.read_text(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return load


@pytest.fixture
def complaint(programs) -> Callable[[Path, Any], str]:
    """What a JSON schema has against a document; empty if nothing."""

    def check(schema, document):
        words = [programs / "python", "-c", _CHECK]
        text = "\n".join(json.dumps(each) for each in (json.loads(schema.read_text()), document))
        done = subprocess.run(words, input=text, capture_output=True, text=True)
        return done.stderr.strip()

    return check
