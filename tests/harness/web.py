"""A client of the built-in plugin `http`: what a probe, a scraper or a browser sends."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any

from harness.command import Resqued
from harness.waiting import scaled, wait_for

ANY = "127.0.0.1:0"
"""For `--http`: any free port."""


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def port_of(arbiter: Resqued) -> int:
    """Where it listens, by what it has logged last."""
    return int(arbiter.wait_for(r"http: listening on \S+:(\d+)$")[-1][1])


def ask(port: int, path: str, method: str = "GET", timeout: float = 10, **headers: str) -> Answer:
    """One request to the loopback interface, and its answer. Raises OSError."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=scaled(timeout))
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=named)
        response = connection.getresponse()
        return Answer(response.status, response.read(), dict(response.getheaders()))
    finally:
        connection.close()


def wait_for_status(port: int, path: str, status: int, timeout: float = 10) -> Answer:
    """Ask again and again until this is the status."""
    answers: list[Answer] = []

    def told() -> bool:
        try:
            answers.append(ask(port, path))
        except OSError:
            return False
        return answers[-1].status == status

    wait_for(told, timeout, f"{status} of {path}")
    return answers[-1]


def send(port: int, raw: bytes) -> socket.socket:
    """A connection on which these bytes have been sent."""
    client = socket.create_connection(("127.0.0.1", port), timeout=scaled(10))
    client.sendall(raw)
    return client


def read_all(client: socket.socket) -> bytes:
    """All that comes until the other side closes; then this side is closed too."""
    with client:
        return b"".join(iter(lambda: client.recv(65536), b""))
