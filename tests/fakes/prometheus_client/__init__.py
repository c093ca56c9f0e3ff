"""prometheus_client: counters in files of each process, or in a registry of this one."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prometheus_client import multiprocess
from prometheus_client.registry import CollectorRegistry

__all__ = ["CollectorRegistry", "Counter", "multiprocess", "start_http_server"]

FOLDER = os.environ.get("PROMETHEUS_MULTIPROC_DIR")  # the real one reads it at its import too


class Counter:
    """Counts into the file of this process; without a folder, into its registry."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labelnames: Sequence[str] = (),
        registry: CollectorRegistry | None = None,
    ) -> None:
        assert documentation
        self._name = name
        self._labels = labelnames
        self._registry = registry

    def labels(self, *values: str) -> Counter:
        pairs = zip(self._labels, map(str, values), strict=True)
        shown = ",".join(f'{name}="{value}"' for name, value in pairs)
        return Counter(f"{self._name}_total{{{shown}}}", "one of them", (), self._registry)

    def inc(self) -> None:
        if FOLDER is None:
            assert self._registry is not None
            self._registry.counts[self._name] += 1
            return
        with Path(FOLDER, f"counter_{os.getpid()}.db").open("a") as file:
            file.write(f"{self._name}\n")


def start_http_server(port: int, registry: CollectorRegistry) -> None:
    """Serve what all have counted, from a daemon thread."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = registry.page().encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing on standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
