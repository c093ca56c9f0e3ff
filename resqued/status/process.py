"""What the kernel says of a process: proc(5). None where it says nothing, or not any more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def memory_of(pid: int, *, shares: bool) -> tuple[int | None, int | None]:
    """Bytes now: resident, and its share of them if that is asked for (proc_pid_smaps(5))."""
    try:
        if not shares:
            return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE, None
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        found = {words[0]: int(words[1]) for words in map(str.split, rollup[1:])}
        return found["Rss:"] * 1024, found["Pss:"] * 1024
    except (OSError, LookupError):
        return None, None


def exists(pid: int) -> bool:
    """Whether there is such a process."""
    return os.access(f"/proc/{pid}", os.F_OK)


def threads_of(pid: int) -> int | None:
    """How many threads a process has now. proc_pid_task(5)."""
    try:
        return len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208
    except OSError:
        return None


def process_state(pid: int) -> str:
    """Whether a process can run. proc_pid_stat(5)."""
    try:
        letter = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"
    return {"T": "stopped", "t": "traced", "Z": "dead", "D": "waiting"}.get(letter, "running")
