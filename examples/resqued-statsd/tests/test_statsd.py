"""The plugin against a real UDP socket."""

from __future__ import annotations

import socket

import pytest
from resqued_statsd import Statsd

from resqued import ConfigError
from resqued.testing import (
    FakeArbiter,
    call,
    make_config,
    make_draft,
    make_exit,
    make_outcome,
    make_worker,
)


@pytest.fixture
def agent():
    """What would be statsd."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(10)
        yield sock


@pytest.fixture
def plugin():
    """A plugin that has sent nothing yet."""
    plugin = Statsd()
    yield plugin
    plugin.close()


def address(agent: socket.socket) -> str:
    return "{}:{}".format(*agent.getsockname())


def settings(plugin: Statsd, agent: socket.socket):
    return make_config(plugin, statsd_host=address(agent), statsd_prefix="shop")


def test_job_times_are_sent_by_their_outcome(plugin, agent):
    worker = make_worker(config=settings(plugin, agent))
    outcome = make_outcome(seconds=0.25, error=ValueError())
    call(plugin, "after_job", worker=worker, outcome=outcome)
    assert agent.recv(100) == b"shop.job.failed:250.000|ms"


def test_workers_are_counted_each_second(plugin, agent):
    workers = [make_worker(number=1), make_worker(number=2, job_id="job")]
    arbiter = FakeArbiter(config=settings(plugin, agent), workers=workers)
    call(plugin, "tick", arbiter=arbiter)
    assert agent.recv(100) == b"shop.workers:2|g"
    assert agent.recv(100) == b"shop.workers.busy:1|g"


def test_only_a_death_that_nobody_asked_for_is_counted(plugin, agent):
    arbiter = FakeArbiter(config=settings(plugin, agent))
    call(plugin, "worker_exited", arbiter=arbiter, exit=make_exit())
    call(plugin, "worker_exited", arbiter=arbiter, exit=make_exit(signal=9))
    assert agent.recv(100) == b"shop.worker.died:1|c"
    agent.setblocking(False)
    with pytest.raises(BlockingIOError):
        agent.recv(100)


def test_a_reload_may_change_the_address(plugin, agent):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        other.settimeout(10)
        for sock in (agent, other):
            call(plugin, "tick", arbiter=FakeArbiter(config=settings(plugin, sock)))
            assert sock.recv(100) == b"shop.workers:0|g"


def test_nobody_listening_is_no_error(plugin, agent):
    arbiter = FakeArbiter(config=settings(plugin, agent))
    agent.close()
    for _ in range(3):
        call(plugin, "tick", arbiter=arbiter)


def test_without_a_host_nothing_is_sent(plugin):
    call(plugin, "tick", arbiter=FakeArbiter(config=make_config(plugin)))


@pytest.mark.parametrize("host", ["localhost", ":8125", "localhost:http", "localhost:99999"])
def test_an_address_that_cannot_be_is_refused(plugin, host):
    with pytest.raises(ConfigError, match="write HOST:PORT"):
        call(plugin, "configure", config=make_draft(plugin, statsd_host=host))


def test_a_real_resqued_sends_what_it_does(start_resqued, agent):
    service = start_resqued("-p", "statsd", "--statsd-host", address(agent))
    service.wait_for_job(service.enqueue("operator.add", 1, 2))
    missing = {"resqued.workers:1|g", "resqued.workers.busy:0|g", "resqued.job.finished"}
    while missing:
        got = agent.recv(200).decode()
        missing -= {got, got.partition(":")[0]}
