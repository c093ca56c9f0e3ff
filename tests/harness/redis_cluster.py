"""Redis of Debian's packages as the recipes configure it: servers, sentinels over them, and TLS."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import redis

from harness import needs
from harness.server import _DIE_WITH_US, free_port
from harness.waiting import scaled, wait_for

PASSWORD = "PASSWORD"  # as the recipes' files have it


class RedisProcess:
    """One `redis-server`, from the text of a configuration file. tls: options of a client."""

    def __init__(
        self, directory: Path, text: str, *words: str, tls: dict[str, str], password: str | None
    ) -> None:
        self.port = free_port()
        self._login: dict[str, Any] = {"port": self.port, "password": password, **tls}
        self._login |= {"ssl": True} if tls else {}
        place = directory / str(self.port)
        place.mkdir()
        lines = text.replace("tls-port 6379", f"tls-port {self.port}").splitlines()
        if not tls:
            lines = [f"port {self.port}", *(line for line in lines if not line.startswith("port"))]
        lines += ["bind 127.0.0.1", f"dir {place}", f"logfile {place / 'log'}"]
        (place / "conf").write_text("\n".join(lines) + "\n")
        program = needs.program("redis-server", "redis-server")
        self._process = subprocess.Popen(
            [sys.executable, "-c", _DIE_WITH_US, program, str(place / "conf"), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(self._answers, 20, f"the server on port {self.port}; {place / 'log'}")

    def client(self) -> redis.Redis:
        return redis.Redis(**self._login)

    def ask(self, *words: object) -> Any:
        with self.client() as client:
            return client.execute_command(*words)  # type: ignore[no-untyped-call]

    def _answers(self) -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(self.ask("PING"))
        return False

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(scaled(10))


class Replicated:
    """Three servers and three sentinels, which agree on who is the master of `main`.

    files: the recipes' redis.conf and sentinel.conf. tls: more lines for all of them, and what a
    client needs then.
    """

    def __init__(
        self, directory: Path, files: tuple[str, str], tls: tuple[str, dict[str, str]] = ("", {})
    ) -> None:
        server_text, sentinel_text = files
        more, self.tls = tls
        common: dict[str, Any] = {"tls": self.tls, "password": PASSWORD}
        self.servers: list[RedisProcess] = []
        self.sentinels: list[RedisProcess] = []
        for _ in range(3):
            followed = [f"replicaof 127.0.0.1 {each.port}" for each in self.servers[:1]]
            quick = ["repl-diskless-sync-delay 0"]  # for the test's patience
            text = "\n".join([server_text, more, *followed, *quick])
            self.servers.append(RedisProcess(directory, text, **common))
        wait_for(lambda: self._replicas() == 2, 30, "the replicas to follow")
        text = sentinel_text.replace("redis-1 6379", f"127.0.0.1 {self.servers[0].port}")
        text = text.replace("milliseconds main 5000", "milliseconds main 1000")
        text = text.replace("timeout main 20000", "timeout main 4000").replace("port 26379\n", "")
        for _ in range(3):
            common = {"tls": self.tls, "password": None}
            self.sentinels.append(
                RedisProcess(directory, f"{more}\n{text}", "--sentinel", **common)
            )
        wait_for(self._agree, 30, "the sentinels to know each other and the replicas")

    def master(self) -> RedisProcess:
        """By the first sentinel."""
        _, port = self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")
        return next(each for each in self.servers if each.port == int(port))

    def url(self) -> str:
        """For resqued."""
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        url = f"redis+sentinel://:{PASSWORD}@{hosts}/main/0"
        if not self.tls:
            return url
        options = [f"{before}{k}={v}" for before in ("", "sentinel_") for k, v in self.tls.items()]
        return f"{url.replace('redis+', 'rediss+')}?{'&'.join(options)}"

    def close(self) -> None:
        for each in (*self.sentinels, *self.servers):
            each.kill()

    def _replicas(self) -> int:
        with self.servers[0].client() as client:
            return int(client.info("replication")["connected_slaves"])

    def _agree(self) -> bool:
        for each in self.sentinels:
            with each.client() as client:
                told = dict(client.sentinel_master("main"))
            if told.get("num-other-sentinels") != 2 or told.get("num-slaves") != 2:
                return False
        return True
