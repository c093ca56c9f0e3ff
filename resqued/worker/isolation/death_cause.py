"""Describe why a child has died."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final

from resqued.signals import name_of

_CGROUPS: Final = Path("/sys/fs/cgroup")
_STALE: Final = 1.0
"""Seconds for which the count that was read before the last job is used again."""


class OutOfMemory:
    """Whether the kernel's OOM killer has killed a process since the last job began. The kernel
    counts its kills for each cgroup, and for the whole machine; not which process was killed."""

    def __init__(self) -> None:
        self._files: list[tuple[Path, bytes]] | None = None
        self._count = 0
        self._looked_at = 0.0

    def look(self) -> None:
        """Read the count, before a job."""
        now = time.monotonic()
        if now >= self._looked_at + _STALE:
            self._count, self._looked_at = self._read(), now

    def has_struck(self) -> bool:
        """Whether the count has grown; after a death."""
        before, self._count = self._count, self._read()
        return self._count > before

    def _read(self) -> int:
        if self._files is None:
            self._files = _files()
        for path, name in self._files:
            with contextlib.suppress(OSError, ValueError):
                for line in path.read_bytes().splitlines():
                    word, _, count = line.partition(b" ")
                    if word == name:
                        return int(count)
        return 0


def _files() -> list[tuple[Path, bytes]]:
    """Files that may have the count: cgroups(7), in both versions, and proc_vmstat(5)."""
    found: list[tuple[Path, bytes]] = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, place = line.split(":", 2)
            inside = place.lstrip("/")
            if not controllers:
                found.append((_CGROUPS / inside / "memory.events", b"oom_kill"))
            elif "memory" in controllers.split(","):
                found.append((_CGROUPS / "memory" / inside / "memory.oom_control", b"oom_kill"))
    found.append((Path("/proc/vmstat"), b"oom_kill"))
    readable = []
    for path, name in found:
        with contextlib.suppress(OSError):
            if name in path.read_bytes():
                readable.append((path, name))
    return readable


def describe_death(status: int, memory: OutOfMemory) -> str:
    """The cause of death of a child that resqued has not killed. status: as os.wait4 gives it."""
    if not os.WIFSIGNALED(status):
        code = os.waitstatus_to_exitcode(status)
        return f"its process ended by itself, with exit status {code}"
    signum = os.WTERMSIG(status)
    text = f"its process was killed by {name_of(signum)}"
    if signum == signal.SIGKILL and memory.has_struck():
        text += ": out of memory (the kernel has killed for want of it meanwhile)"
    elif signum == signal.SIGXCPU:
        text += ": over its limit of CPU time"
    elif os.WCOREDUMP(status):
        text += " (core dumped)"
    return text
