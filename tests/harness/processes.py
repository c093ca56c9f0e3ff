"""Processes as the kernel sees them: who descends from us, what they are, what they hold.

The test run is a child subreaper, so whatever a test starts, however it daemonizes and
whoever of its parents dies, stays our descendant: nothing can be left behind unseen.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from pathlib import Path

import psutil

_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Adopt the orphans of our descendants, as the arbiter does with its own."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def title(process: psutil.Process) -> str:
    """What `ps` shows; empty for a zombie or a process that has gone."""
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""


def parent(process: psutil.Process) -> int:
    """The parent's pid; 0 for a process that has gone."""
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return 0


def is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def alive(pid: int) -> bool:
    """It runs: it is there and not a zombie.

    A process is a zombie with threads while one that is not its first calls exec.
    """
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return process.num_threads() > 1
    except psutil.NoSuchProcess:
        return False
    return True


def descendants(pid: int | None = None) -> list[psutil.Process]:
    """Children and theirs of a process, of this one if none is named; oldest first."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def reap_adopted(keep: set[int]) -> None:
    """Collect zombies that fell to us because their parent died; `keep` have a waiter."""
    for child in psutil.Process().children():
        if child.pid not in keep and is_zombie(child):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, os.WNOHANG)


def describe(process: psutil.Process) -> str:
    """`812 (parent 810, sleeping) resqued: worker 3 critical [idle]`."""
    try:
        return f"{process.pid} (parent {process.ppid()}, {process.status()}) {title(process)}"
    except psutil.NoSuchProcess:
        return f"{process.pid} (gone)"


def open_files(pid: int) -> list[str]:
    """Where each descriptor of a process points to, sorted; as /proc names it."""
    targets = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            targets.append(str(link.readlink()))
    return sorted(targets)


def mapped_files(pid: int) -> set[str]:
    """Paths of all files that a process has mapped: programs, libraries, extension modules."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    return set(re.findall(r"\s(/\S.*)$", maps, re.MULTILINE))


def memory_of(pids: list[int]) -> int:
    """Sum of the proportional set sizes in bytes: shared pages count once among all sharers."""
    total = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just left
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += sum(int(kib) * 1024 for kib in re.findall(r"^Pss:\s+(\d+) kB", rollup, re.M))
    return total


def cpu_of(pid: int) -> float:
    """Seconds of CPU, in user and kernel mode, that a process has used so far."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system
