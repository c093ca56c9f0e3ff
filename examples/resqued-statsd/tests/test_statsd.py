"""The plugin against a real UDP socket, called by resqued's own machinery."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest

from resqued import Config, ConfigError, Exit, Outcome, Worker, WorkerState
from resqued.plugins.registry import load_plugins


@pytest.fixture
def agent():
    """What would be statsd."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


@pytest.fixture
def hooks():
    hooks = load_plugins(["statsd"], autoload=False).hooks()
    yield hooks
    plugin = hooks.plugins.get_plugin("statsd")
    if plugin._socket:
        plugin._socket.close()
    plugin.__init__()


def settings(agent: socket.socket) -> Config:
    host, port = agent.getsockname()
    return Config(options={"statsd_host": f"{host}:{port}", "statsd_prefix": "shop"})


def worker(config: Config, job_id: str | None = None) -> Worker:
    return Worker(1, "w.1", 812, 1, ("default",), WorkerState.BUSY, 0.0, job_id, config)


def test_job_times_are_sent_by_their_outcome(hooks, agent):
    outcome = Outcome("failed", 0.25, ValueError())
    hooks.tell("after_job", worker=worker(settings(agent)), job=None, outcome=outcome)
    assert agent.recv(100) == b"shop.job.failed:250.000|ms"


def test_workers_are_counted_each_second(hooks, agent):
    config = settings(agent)
    arbiter = SimpleNamespace(config=config, workers=[worker(config), worker(config, "job")])
    hooks.tell("tick", arbiter=arbiter, now=0.0)
    assert agent.recv(100) == b"shop.workers:2|g"
    assert agent.recv(100) == b"shop.workers.busy:1|g"


def test_only_a_death_that_nobody_asked_for_is_counted(hooks, agent):
    config = settings(agent)
    arbiter = SimpleNamespace(config=config, workers=[])
    for expected, signum in ((True, None), (False, 9)):
        exit = Exit(None, signum, True, expected, 60.0, {}, None, 0)
        hooks.tell("worker_exited", arbiter=arbiter, worker=worker(config), exit=exit)
    assert agent.recv(100) == b"shop.worker.died:1|c"
    agent.setblocking(False)
    with pytest.raises(BlockingIOError):
        agent.recv(100)


def test_a_reload_may_change_the_address(hooks, agent):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        other.settimeout(5)
        for sock in (agent, other):
            arbiter = SimpleNamespace(config=settings(sock), workers=[])
            hooks.tell("tick", arbiter=arbiter, now=0.0)
            assert sock.recv(100) == b"shop.workers:0|g"


def test_nobody_listening_is_no_error(hooks, agent):
    config = settings(agent)
    agent.close()
    arbiter = SimpleNamespace(config=config, workers=[])
    for _ in range(3):
        hooks.demand("tick", arbiter=arbiter, now=0.0)


def test_without_a_host_nothing_is_sent(hooks):
    config = Config(options={"statsd_host": None, "statsd_prefix": "shop"})
    hooks.demand("tick", arbiter=SimpleNamespace(config=config, workers=[]), now=0.0)
    assert hooks.plugins.get_plugin("statsd")._socket is None


@pytest.mark.parametrize("host", ["localhost", ":8125", "localhost:http", "localhost:99999"])
def test_an_address_that_cannot_be_is_refused(hooks, host):
    with pytest.raises(ConfigError, match="write HOST:PORT"):
        hooks.demand("configure", config=SimpleNamespace(statsd_host=host))
