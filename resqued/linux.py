"""What Linux offers beyond Python's `os`: prctl, and the OOM killer's preference."""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
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
