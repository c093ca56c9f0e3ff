"""Fixtures: a real server, the installed command, and the proof that nothing is left behind."""

from __future__ import annotations

import shutil
import signal
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest
import redis
from rq import Queue

from harness import examples, processes, waiting
from harness.command import COMMAND, Resqued
from harness.gates import Gate
from harness.proxy import Proxy
from harness.quick import (  # noqa: F401 (hooks)
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_configure,
)
from harness.server import Server
from harness.waiting import WaitedTooLong, wait_for
from resqued.arbiter.children import STRANGER
from resqued.logs import logger

_FAILED = pytest.StashKey[bool]()


examples.load_profile()


def pytest_sessionstart() -> None:
    # A shell has what it starts in the background ignore these, and so would all that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    waiting.PACE.begin()


def pytest_itemcollected(item: pytest.Item) -> None:
    """The timeout for what hangs scales with the machine too; a long run of Hypothesis has none."""
    mark, config = item.get_closest_marker("timeout"), item.config
    seconds = mark.args[0] if mark else config.getoption("timeout") or config.getini("timeout")
    longest = 0 if examples.LONG else float(seconds) * waiting.PACE.slower(fresh=60.0)
    item.add_marker(pytest.mark.timeout(longest), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The run's own server. Use `valkey`, which is empty."""
    processes.become_subreaper()
    # not under tmp_path: a unix socket's path is at most 107 bytes long
    directory = Path(tempfile.mkdtemp(prefix="resqued-valkey-"))
    server = Server(directory)
    server.start()
    yield server
    server.close()
    shutil.rmtree(directory)


@pytest.fixture
def valkey(server: Server) -> Iterator[Server]:
    """A running, empty server, which the test may stop, kill, freeze and reconfigure."""
    server.clear()
    yield server
    server.clear()


@pytest.fixture
def connection(valkey: Server) -> Iterator[redis.Redis]:
    """A client of that server."""
    client = redis.Redis(unix_socket_path=str(valkey.socket))
    yield client
    client.close()


@pytest.fixture
def queue(connection: redis.Redis) -> Callable[..., Queue]:
    """`queue("low")`: one of RQ's queues."""
    return lambda name="default": Queue(name, connection=connection)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Callable[[], Gate]]:
    """`gate()`: a place where jobs wait until the test lets them go on; all are open at the end."""
    gates: list[Gate] = []

    def make() -> Gate:
        gates.append(Gate(tmp_path / f"gate-{len(gates) + 1}"))
        return gates[-1]

    yield make
    for each in gates:
        each.open()


@pytest.fixture
def proxy(valkey: Server) -> Iterator[Proxy]:
    """A proxy in front of the server; start resqued with `--redis proxy.url`."""
    directory = Path(tempfile.mkdtemp(prefix="resqued-proxy-"))
    proxy = Proxy(valkey.socket, directory / "valkey.sock")
    yield proxy
    proxy.close()
    shutil.rmtree(directory)


@pytest.fixture
def resqued(
    request: pytest.FixtureRequest, valkey: Server, tmp_path: Path
) -> Iterator[Callable[..., Resqued]]:
    """Start `resqued` with these arguments; may be called more than once.

    config, app: text of a `resqued.conf.py` and an `app.py` in its working directory, from which
    modules can be imported. probe: load the probe plugin.
    faults: how the probe's hooks misbehave, `tick=raise`. expect_errors: a regular expression
    of the ERROR lines that may be in its log. under: a command to start it with. command: another
    `resqued` than this checkout's. Other keywords are environment variables.

    At the end everything must have left by itself after TERM, without a complaint in the log.
    """
    started: list[Resqued] = []
    before = {process.pid for process in processes.descendants()}

    def start(
        *arguments: object,
        config: str | None = None,
        app: str | None = None,
        probe: bool = False,
        faults: str = "",
        expect_errors: str = "",
        under: Sequence[str] = (),
        command: str = COMMAND,
        **env: str,
    ) -> Resqued:
        directory = tmp_path / (f"resqued-{len(started) + 1}" if started else "resqued")
        directory.mkdir()
        for name, text in (("resqued.conf.py", config), ("app.py", app)):
            if text is not None:
                (directory / name).write_text(textwrap.dedent(text))
        words = [str(argument) for argument in arguments]
        if probe or faults:
            words += ["-p", "harness.probe"]
        env = {"RQ_REDIS_URL": valkey.url, "RESQUED_FAULTS": faults, **env}
        one = Resqued(
            words,
            directory=directory,
            env=env,
            expect_errors=expect_errors,
            under=under,
            command=command,
        )
        started.append(one)
        return one

    yield start

    problems = _end(started, valkey, before)
    failed = request.node.stash.get(_FAILED, False)
    if problems or failed:
        print(*[one.story() for one in started], *problems, sep="\n")
    if problems and not failed:
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.fixture
def no_process_left(server: Server) -> Iterator[None]:
    """For tests that start programs by themselves: all that descends from them has left."""
    before = {process.pid for process in processes.descendants()}
    yield
    problems = _left_behind(server, before, set())
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


def _end(started: list[Resqued], server: Server, before: set[int]) -> list[str]:
    """Stop what runs, then look at what is left; end that too, and say what was wrong."""
    problems = []
    for one in started:
        if one.running:
            settled = _settles(lambda one=one: not _zombies(one), STRANGER + 5)
            if not settled:
                problems.append(f"zombies that nobody collects:\n{one.tree()}")
            try:
                code = one.stop()
                if code != 0 and not one.expect_errors:
                    problems.append(f"left with {code} after TERM")
            except WaitedTooLong as error:
                problems.append(f"does not leave after TERM: {error}")
                one.signal("KILL")
                one.exit()
        else:
            one.exit()

    problems += _left_behind(server, before, {one.process.pid for one in started})
    for one in started:
        problems += [f"in the log: {line}" for line in one.complaints()]
    return problems


def _left_behind(server: Server, before: set[int], waiters: set[int]) -> list[str]:
    """What descends from us and was not there before; it is ended. Once no process is left,
    no memfd is either, but for our own."""

    def ours() -> list[psutil.Process]:
        kept = before | ({server.pid} if server.running else set())  # a test may restart it
        return [each for each in processes.descendants() if each.pid not in kept]

    def nothing_left() -> bool:
        processes.reap_adopted(waiters)
        return not ours()

    if _settles(nothing_left):
        return []
    left = "\n".join(map(processes.describe, ours()))
    for process in ours():
        process.kill()
    _settles(nothing_left)
    return [f"processes left behind:\n{left}"]


def _zombies(one: Resqued) -> list[psutil.Process]:
    """Those that the arbiter or a fork server should have collected; a worker's are its job's."""
    parents = {one.pid, *(server.pid for server in one.fork_servers())}
    return [
        each
        for each in processes.descendants(one.pid)
        if processes.is_zombie(each) and processes.parent(each) in parents
    ]


def _settles(predicate: Callable[[], bool], seconds: float = 5) -> bool:
    try:
        return wait_for(predicate, seconds)
    except WaitedTooLong:
        return False


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    """What is logged in the test's own process."""
    lines: list[str] = []
    number = logger.add(lines.append, format="{message}")
    yield lines
    logger.remove(number)
