"""What all rows share: the server, where things go, what was chosen, and the table."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks import light, older
from benchmarks.report import Table
from benchmarks.systems import Older, Resqued, System
from harness.server import Server


class Bench:
    """Made once for a run. options: the command line's."""

    def __init__(
        self, server: Server, directory: Path, options: argparse.Namespace, table: Table
    ) -> None:
        self.server = server
        self.directory = directory
        self.options = options
        self.table = table

    def system(self, kind: type[System], workers: int, database: int = 0, **more: Any) -> System:
        """Not yet started. It reaches the server by TCP, as one in production does."""
        url = f"redis://127.0.0.1:{self.server.port}/{database}"
        return kind(workers, url, self.directory, **more)

    def versions(self, workers: int) -> list[System]:
        """This version, and with it 0.1 unless --alone was given, with the light application."""
        systems = [self.system(Resqued, workers, 1, app=light)]
        if not self.options.alone:
            command = older.command()
            systems.append(self.system(Older, workers, 2, app=light, command=command))
        self.server.clear()
        return systems
