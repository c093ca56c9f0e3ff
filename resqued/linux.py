"""What Linux offers beyond Python's `os`: prctl, the OOM killer's preference, who a pid is."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import time
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_GET_DUMPABLE: Final = 3
_PR_SET_CHILD_SUBREAPER: Final = 36

# Looked up at import: a child that has just been forked should not have to load anything.
_prctl: Final = ctypes.CDLL(None, use_errno=True).prctl
_prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
_prctl.restype = ctypes.c_int


def _call_prctl(option: int, argument: int) -> None:
    if _prctl(option, argument, 0, 0, 0) == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def set_parent_death_signal(signum: int) -> None:
    """Have the kernel send us `signum` when the thread that started us ends; 0: nothing.

    A fork, a set-uid exec and any change of credentials clear it, so call it last. A parent that
    was gone before is not told of: compare `os.getppid()` afterwards. PR_SET_PDEATHSIG(2const).
    Raises OSError.
    """
    _call_prctl(_PR_SET_PDEATHSIG, signum)


def become_subreaper() -> None:
    """Become the parent of every orphan among our descendants. Kept over exec, not over fork.

    PR_SET_CHILD_SUBREAPER(2const). Raises OSError.
    """
    _call_prctl(_PR_SET_CHILD_SUBREAPER, 1)


def try_prctl() -> None:
    """Call prctl and change nothing. Raises OSError where that is forbidden."""
    if _prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def raise_oom_score(points: int) -> None:
    """Make the OOM killer prefer us by `points` (of 1000) over what started us.

    Needs no privilege; children inherit it. Does nothing where /proc does not allow it.
    proc_pid_oom_score_adj(5).
    """
    # Not by pathlib: this runs in every worker right after its fork, and each page that its
    # machinery touches would be copied.
    with contextlib.suppress(OSError, ValueError):  # hardened; no reason not to work
        fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
        try:
            score = min(1000, int(os.read(fd, 16)) + points)
            os.pwrite(fd, b"%d" % score, 0)
        finally:
            os.close(fd)


def boot_clock() -> float:
    """Seconds on a clock that also counts while the machine is suspended. clock_gettime(2)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def birth_ticks(pid: int) -> int:
    """When a process began, in clock ticks since the boot; 0 if it has ended, or is a zombie.

    A pid and this name one process for as long as the machine runs.
    """
    words = _stat(pid)
    return 0 if words[0] in (b"Z", b"X") else int(words[19])


def lives(pid: int, ticks: int) -> bool:
    """Whether the process that bore this pid, and began then (`birth_ticks`), still does."""
    return ticks > 0 and birth_ticks(pid) == ticks


def is_stopped(pid: int) -> bool:
    """Whether it was stopped by a signal, SIGSTOP for one."""
    return _stat(pid)[0] == b"T"


def _stat(pid: int) -> list[bytes]:
    """proc_pid_stat(5) from the state on; that of a dead process when there is none."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            raw = os.read(fd, 1024)
        finally:
            os.close(fd)
    except OSError:
        return [b"X"]
    return raw.rpartition(b")")[2].split()  # the name before it may hold anything


@functools.cache
def machine() -> str:
    """What tells where pids mean the same: this boot of this kernel, in this pid namespace.

    boot_id of proc_sys_kernel(5), and pid_namespaces(7).
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:  # noqa: PTH123
            boot = file.read().strip()
        space = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116
    except OSError:  # no /proc as we know it: then no other process is on our machine
        return os.urandom(6).hex()
    return hashlib.blake2s(b"%b %d" % (boot, space), digest_size=6).hexdigest()
