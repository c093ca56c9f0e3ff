"""Servers that come and go: a master and its replica, each with a port of its own."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from harness.server import Server, free_port
from harness.waiting import wait_for


@pytest.fixture
def directory():
    """Short enough for the paths of unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="resqued-servers-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def make_server(server, directory):
    """`make_server("a", "--maxmemory", "1mb")`: one more server, on a port too. For fixtures that
    a test asks for before `resqued`."""
    made: list[Server] = []

    def make(name, *options):
        place = directory / name
        place.mkdir()
        words = ("--port", str(free_port()), "--bind", "127.0.0.1")
        words += ("--repl-diskless-sync-delay", "0", *options)
        made.append(Server(place, *words))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def pair(make_server):
    """A master and a replica that has caught up with it."""
    master, replica = make_server("a"), make_server("b")
    replica.connect().replicaof("127.0.0.1", master.port)
    linked = replica.connect()
    wait_for(lambda: linked.info("replication")["master_link_status"] == "up", 20, "the link")
    return master, replica
