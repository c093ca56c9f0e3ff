"""prometheus_client.multiprocess."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.registry import CollectorRegistry


class MultiProcessCollector:
    def __init__(self, registry: CollectorRegistry, path: str) -> None:
        assert Path(path).is_dir()
        registry.folder = path
