"""The memory of the worker's process."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Memory:
    """The resident memory of this process, read at most ten times a second."""

    def __init__(self) -> None:
        self._bytes = 0
        self._due = 0.0

    def read(self) -> int:
        """Bytes (proc_pid_statm(5)); 0 if it cannot be read, as without a free descriptor."""
        if (now := time.monotonic()) >= self._due:
            self._due = now + 0.1
            try:
                self._bytes = int(Path("/proc/self/statm").read_bytes().split()[1]) * _PAGE
            except OSError:
                self._bytes = 0
        return self._bytes
