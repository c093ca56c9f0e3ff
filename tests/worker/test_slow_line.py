"""Large answers of jobs over a line that is slow, but moves."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time

import pytest
import redis

from resqued.broker.strict import make_strict

LARGE = 8_000_000


@pytest.fixture
def slow(valkey):
    """The port of a line to Redis that carries 64 KB in ten milliseconds at the most."""
    listener = socket.create_server(("127.0.0.1", 0))

    def carry(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client has given up
            while chunk := source.recv(1 << 16):
                time.sleep(0.01)
                target.sendall(chunk)
            target.shutdown(socket.SHUT_WR)

    def serve() -> None:
        client, _ = listener.accept()
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(str(valkey.socket))
            back = threading.Thread(target=carry, args=(server, client))
            back.start()
            carry(client, server)
            back.join()

    line = threading.Thread(target=serve)
    line.start()
    yield listener.getsockname()[1]
    line.join()
    listener.close()


def test_the_time_for_a_command_does_not_bound_how_long_it_is_sent(slow):
    connection = redis.Redis(port=slow)
    make_strict(connection, "slow", answer=1.0)
    with connection.pipeline() as pipeline:
        pipeline.set("large", os.urandom(LARGE))
        pipeline.strlen("large")
        try:
            assert pipeline.execute() == [True, LARGE]
        finally:
            connection.close()
            connection.connection_pool.disconnect()
