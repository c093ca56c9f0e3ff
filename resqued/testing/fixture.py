"""The fixture `start_resqued`. Importing this module needs pytest."""

from __future__ import annotations

import contextlib
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resqued.testing.redis_server import NoServer, RedisServer
from resqued.testing.service import TIMEOUT, RunningResqued, WaitedTooLong


@pytest.fixture
def start_resqued(tmp_path: Path) -> Iterator[Callable[..., RunningResqued]]:
    """Start `resqued` with these arguments, and return it when a worker is ready.

        def test_jobs_are_counted(start_resqued):
            service = start_resqued("-p", "statsd", "--statsd-host", "127.0.0.1:8125")
            job = service.wait_for_job(service.enqueue("operator.add", 1, 2))
            assert job.return_value() == 3

    It has a Redis server and a working directory of its own, and the path of modules of the test.
    config, app: text of `resqued.conf.py` and of a module `app` in that directory. wait: False
    returns at once: for a start that fails, or a log without the line that says it (`-q`).
    expect_errors: a regular expression of the error lines that may be in its log; any other fails
    the test. Other keywords are environment variables.
    It may be called more than once; all that is started ends with the test, which fails if that
    does not happen in good order.
    """
    started: list[tuple[RunningResqued, str]] = []
    problems: list[str] = []
    with contextlib.ExitStack() as servers:

        def start(
            *arguments: object,
            config: str | None = None,
            app: str | None = None,
            wait: bool = True,
            expect_errors: str = "",
            **env: str,
        ) -> RunningResqued:
            server = _start_server()
            servers.callback(server.close)
            directory = tmp_path / f"resqued-{len(started) + 1}"
            directory.mkdir()
            for name, text in (("resqued.conf.py", config), ("app.py", app)):
                if text is not None:
                    (directory / name).write_text(textwrap.dedent(text))
            service = RunningResqued(
                [str(argument) for argument in arguments],
                directory=directory,
                url=server.url,
                connection=server.client,
                socket=server.folder / "control",
                env=env,
            )
            started.append((service, expect_errors))
            if wait:
                service.wait_for_log(r"worker=\d+ .* ready\b")
            return service

        try:
            yield start
        finally:
            for service, expected in started:
                problems += _end(service, expected)
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


def _start_server() -> RedisServer:
    """Fails the test if there is none to start."""
    try:
        return RedisServer()
    except NoServer as error:
        missing = str(error)
    pytest.fail(missing, pytrace=False)


def _end(service: RunningResqued, expected: str) -> list[str]:
    """Stop it, whatever it takes, and say what was wrong. A failed test shows its log."""
    problems = []
    try:
        if service.running:
            code = service.stop("TERM", TIMEOUT / 2)
            if code != 0:
                problems.append(f"resqued left with {code} after TERM")
    except WaitedTooLong:
        problems.append(f"resqued did not leave within {TIMEOUT / 2:g} s of TERM; it was killed")
    finally:
        service.kill()
    print(f"resqued {' '.join(service.arguments)}\n{service.log()}")
    for line in service.errors():
        if not (expected and re.search(expected, line)):
            problems.append(f"in the log of resqued: {line}")
    return problems
