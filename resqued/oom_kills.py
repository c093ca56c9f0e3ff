"""Whether the kernel killed a process because memory was out: the one place that decides it.

The kernel counts the kills in each cgroup, not which processes it has killed: memory.events of
cgroup v2, memory.oom_control of v1 (cgroups(7)). So a death by SIGKILL that resqued has not caused
counts as one of these kills, if the count has grown since it was read before. Each such growth is
the cause of one death.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_OWN: Final = Path("/proc/self/cgroup")
_MOUNTED: Final = Path("/sys/fs/cgroup")
_WORD: Final = b"oom_kill"


class OomKills:
    """The count of this process's cgroup, and of its processes that have died.

    Reads nothing before the first `look`. file: with the count; None: to be found. Without a
    cgroup, or a file that can be read, nothing was ever killed so.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._found = file is not None
        self._count = 0
        self._grown = 0  # kills that are not the cause of a death yet
        self._looked_at = -1e9

    def look(self, fresh: float = 0.0) -> None:
        """Read the count, before a process that may die begins. fresh: seconds for which the last
        reading will do."""
        now = time.monotonic()
        if now >= self._looked_at + fresh:
            self._count, self._grown, self._looked_at = self._read(), 0, now

    def is_cause(self, status: int) -> bool:
        """Whether a process that has died was killed so. status: as os.waitpid gives it, of a
        process that resqued has not killed."""
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            return False
        before, self._count = self._count, self._read()
        self._grown += max(0, self._count - before)
        struck = self._grown > 0
        self._grown -= struck
        return struck

    def _read(self) -> int:
        if not self._found:
            self._found, self._file = True, find_file()
        return (_count_in(self._file) or 0) if self._file is not None else 0


def find_file(own: Path = _OWN, mounted: Path = _MOUNTED) -> Path | None:
    """The file with the count of this process's cgroup. own: which cgroups it is in (cgroups(7)).
    mounted: where they are."""
    return next((file for file in _candidates(own, mounted) if _count_in(file) is not None), None)


def _candidates(own: Path, mounted: Path) -> Iterator[Path]:
    """In a container the paths may be those outside of it, while its own cgroup is mounted."""
    try:
        lines = own.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        _, controllers, inside = line.split(":", 2) if line.count(":") >= 2 else ("", "-", "")
        for place in (inside.lstrip("/"), ""):
            if not controllers:
                yield mounted / place / "memory.events"
            elif "memory" in controllers.split(","):
                yield mounted / "memory" / place / "memory.oom_control"


def _count_in(file: Path) -> int | None:
    """None if it has no count, or cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        for line in file.read_bytes().splitlines():
            word, _, count = line.partition(b" ")
            if word == _WORD:
                return int(count)
    return None
