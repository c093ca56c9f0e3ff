"""Modules that register jobs, loaded in the test's own process, and keepers of jobs."""

from __future__ import annotations

import importlib
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rq import Queue

from resqued.cron import registrations
from resqued.cron.definition import Definition
from resqued.cron.keeper import CronKeeper
from resqued.cron.load import BadCron, load

TASKS = """
    import os

    def clean(days=7, *, deep=False): pass

    def report(job=None, connection=None, *more): pass

    no_function = 3

    class Store:
        def __init__(self, name): self.name = name
        def sweep(self): pass
        @classmethod
        def sweep_all(cls): pass
        @staticmethod
        def sweep_none(): pass
        def __call__(self): pass
"""

HEAD = """
from rq import Callback, Retry, cron
from rq.webhook import Webhook
from resqued.cron import register
from tasks_of_test import Store, clean, report
"""


class Folder:
    """A folder on the path, with a module `tasks_of_test`. At the end its modules are forgotten."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warnings: list[str] = []
        self.write("tasks_of_test.py", TASKS)

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        importlib.invalidate_caches()
        return path

    def write_jobs(self, text: str) -> None:
        """A module `jobs_of_test` with this text after HEAD: from its sixth line."""
        self.write("jobs_of_test.py", HEAD + textwrap.dedent(text))

    def load(self, text: str = "", *sources: str, **more) -> tuple[Definition, ...]:
        """Load a module `jobs_of_test` with this text after HEAD, or the sources."""
        if text:
            self.write_jobs(text)
        more = {"timezone": "UTC", **more}
        return load(sources or ["jobs_of_test"], warn=self.warnings.append, **more)

    def refused(self, text: str = "", *sources: str, **more) -> list[str]:
        """All errors of such a load."""
        with pytest.raises(BadCron) as error:
            self.load(text, *sources, **more)
        return list(error.value.problems)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    registrations.taken()
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield Folder(tmp_path)
    for name in set(sys.modules) - before:
        module = sys.modules[name]
        files = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
        if any(str(tmp_path.parent) in str(file) for file in files):
            del sys.modules[name]
    registrations.taken()


@pytest.fixture
def refused(folder: Folder) -> Callable[..., list[str]]:
    return folder.refused


@pytest.fixture
def q(connection):
    return Queue("q", connection=connection)


@pytest.fixture
def keeper(connection):
    """`keeper(definition, ...)`: one of an arbiter."""

    def make(*definitions, arbiter="one", age=0.0, takeover=False, client=connection) -> CronKeeper:
        return CronKeeper(
            client,
            arbiter,
            definitions,
            loaded=time.monotonic() - age,
            serializer="pickle",
            takeover=takeover,
        )

    return make
