"""TLS on one side only is named, with the URL to write instead."""

from __future__ import annotations

import socket
import ssl
import threading

import pytest
from rq import Queue

from harness import jobs
from harness.waiting import scaled, wait_for


@pytest.fixture
def tls_port():
    """A port on which somebody speaks TLS. Without a certificate: no handshake comes to its end."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            with link:
                link.settimeout(scaled(5))
                try:
                    context.wrap_socket(link, server_side=True).close()
                except OSError:
                    continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(scaled(10))


def test_redis_against_a_port_that_speaks_tls(tls_port, resqued):
    arbiter = resqued(
        "-n", 1, "--redis", f"redis://127.0.0.1:{tls_port}", expect_errors="speaks TLS"
    )
    arbiter.wait_for("ERROR .*this port speaks TLS; write rediss:// instead of redis://")


@pytest.fixture
def plain(make_server):
    return make_server("p")


def test_rediss_against_a_plain_port(plain, resqued):
    arbiter = resqued(
        *("-n", 1, "--loop-timeout", 8, "--redis", f"rediss://127.0.0.1:{plain.port}"),
        expect_errors="does not speak TLS",
    )
    arbiter.wait_for("ERROR .*does not speak TLS; write redis:// instead of rediss://", timeout=20)


def test_a_server_that_is_only_slow_is_not_taken_for_one(plain, resqued):
    arbiter = resqued("-n", 1, "--loop-timeout", 8, "--redis", f"redis://127.0.0.1:{plain.port}")
    arbiter.wait_for_workers(1)
    plain.freeze()
    try:
        arbiter.wait_for("does not answer", timeout=40)
    finally:
        plain.thaw()
    job = Queue(connection=plain.connect()).enqueue(jobs.noop)
    wait_for(lambda: job.get_status() == "finished", 20, "a job")
    assert "TLS" not in arbiter.log()
