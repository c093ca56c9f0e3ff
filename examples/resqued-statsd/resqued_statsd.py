"""Metrics of resqued over UDP, in statsd's format. See README.md."""

from __future__ import annotations

import contextlib
import socket

from loguru import logger

from resqued import Arbiter, Config, ConfigError, Draft, Exit, Options, Outcome, Worker, hookimpl

__version__ = "0.3.0"


class Statsd:
    """The plugin: once in the arbiter, once in each worker."""

    def __init__(self) -> None:
        self._host: str | None = None
        self._socket: socket.socket | None = None

    @hookimpl
    def add_options(self, options: Options) -> None:
        options.add("--statsd-host", default=None, help="Send metrics to HOST:PORT over UDP.")
        options.add("--statsd-prefix", default="resqued", help="What their names begin with.")

    @hookimpl
    def configure(self, config: Draft) -> None:
        if config.statsd_host is None:
            return
        host, _, port = config.statsd_host.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError(
                "statsd_host",
                f"{config.statsd_host!r} is no address",
                remedy="write HOST:PORT, such as 127.0.0.1:8125",
            )

    @hookimpl
    def tick(self, arbiter: Arbiter) -> None:
        workers = arbiter.workers
        busy = sum(worker.job_id is not None for worker in workers)
        self._send(arbiter.config, f"workers:{len(workers)}|g", f"workers.busy:{busy}|g")

    @hookimpl
    def worker_exited(self, arbiter: Arbiter, exit: Exit) -> None:
        if not exit.expected:
            self._send(arbiter.config, "worker.died:1|c")

    @hookimpl
    def after_job(self, worker: Worker, outcome: Outcome) -> None:
        self._send(worker.config, f"job.{outcome.status}:{outcome.seconds * 1000:.3f}|ms")

    def _send(self, config: Config, *metrics: str) -> None:
        if config.statsd_host is None:
            return
        if config.statsd_host != self._host:  # the first time, and when a reload has changed it
            self._open(config.statsd_host)
        if self._socket is None:
            return
        for metric in metrics:
            # nobody listens, or the network is away: the next one may arrive
            with contextlib.suppress(OSError):
                self._socket.send(f"{config.statsd_prefix}.{metric}".encode())

    def close(self) -> None:
        """Close the socket; the next metric opens another."""
        if self._socket is not None:
            self._socket.close()
        self._host = self._socket = None

    def _open(self, host: str) -> None:
        """The name is looked up once: a hook of the arbiter must not wait for it each second."""
        self.close()
        self._host = host
        name, _, port = host.rpartition(":")
        try:
            family, kind, _, _, address = socket.getaddrinfo(
                name.strip("[]"), port, type=socket.SOCK_DGRAM
            )[0]
            self._socket = socket.socket(family, kind)
            self._socket.setblocking(False)
            self._socket.connect(address)
        except OSError as error:
            logger.warning(f"statsd: no metrics are sent to {host}: {error}")


plugin = Statsd()
