"""Find the arbiters that run on this machine without a pid file. Runs in a command of its own.

Every process of an arbiter has its scoreboard's memfd open, and the arbiter's pid is written there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from resqued.scoreboard import Scoreboard

_MEMFD: Final = "/memfd:resqued-scoreboard"


def find() -> list[int]:
    """Pids of this user's arbiters, the lowest first; for root those of all users."""
    parents: dict[int, dict[int, int]] = {}  # scoreboard's inode: pid: parent
    arbiters: set[int] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        pid = int(entry.name)
        with contextlib.suppress(OSError, ValueError):  # it has ended, or belongs to another user
            if _is_worker(pid):
                continue
            for fd in scoreboards(pid):
                parents.setdefault(os.fstat(fd).st_ino, {})[pid] = _parent(pid)
                if _published(fd) & _numbers(pid):
                    arbiters.add(pid)
    for family in parents.values():
        if not arbiters & set(family) and len(family) > 0:
            arbiters |= _first_of(family)
    return sorted(arbiters)


def scoreboards(pid: int) -> Iterator[int]:
    """A descriptor of the scoreboard that a process has open, closed after use. Raises OSError."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if not str(link.readlink()).startswith(_MEMFD):
                continue
        except FileNotFoundError:  # closed since it was listed
            continue
        fd = os.open(link, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)
        return


def _is_worker(pid: int) -> bool:
    """Whether it calls itself a worker. There may be thousands, each with many descriptors."""
    return Path(f"/proc/{pid}/comm").read_bytes().startswith(b"resqued: worker")


def _published(fd: int) -> set[int]:
    """The pid that the arbiter has written, in its own pid namespace."""
    board = Scoreboard(os.dup(fd), writable=False)
    try:
        return {pid for pid in [board.summary.read().get("pid")] if pid}
    finally:
        board.close()


def _numbers(pid: int) -> set[int]:
    """Its pids in its own and in the outer pid namespaces. proc_pid_status(5)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return {pid, *map(int, line.split()[1:])}
    return {pid}


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _first_of(family: dict[int, int]) -> set[int]:
    """The arbiter that has published nothing that can be read: it shares the scoreboard with its
    fork server."""
    heads = {pid for pid, parent in family.items() if parent not in family}
    return {pid for pid in heads if pid in family.values() and _is_fresh(pid)}


def _is_fresh(pid: int) -> bool:
    """Whether it has published nothing, or runs another version, whose scoreboard is not read."""
    with contextlib.suppress(OSError):
        for fd in scoreboards(pid):
            try:
                return not _published(fd)
            except ValueError:
                return True
    return False
