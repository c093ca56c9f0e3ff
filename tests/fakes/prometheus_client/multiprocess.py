"""prometheus_client.multiprocess."""

from __future__ import annotations

import os

from prometheus_client.registry import CollectorRegistry


class MultiProcessCollector:
    def __init__(self, registry: CollectorRegistry) -> None:
        registry.folder = os.environ["PROMETHEUS_MULTIPROC_DIR"]


def mark_process_dead(pid: int) -> None:
    """The real one deletes the gauges of the process, and keeps its counters."""
    assert pid > 0
