"""Enlarge the stack on which this process handles signals.

Python's signal handlers run on an alternate stack where there is one, and faulthandler makes one of
a few kilobytes when it is first used. Signals that were pending, as after SIGCONT, are delivered
all at once, each on top of the other, with three kilobytes each on processors with wide registers:
after about six of them the process ends with SIGSEGV.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Final

_SIZE: Final = 64 * 4096
"""Bytes, enough for all signals at once. Memory is used only when they come."""


class _Stack(ctypes.Structure):
    """stack_t of sigaltstack(2)."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


_sigaltstack: Final = ctypes.CDLL(None, use_errno=True).sigaltstack
_room: Final = mmap.mmap(-1, _SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
_stack: Final = _Stack(ctypes.addressof(ctypes.c_char.from_buffer(_room)), 0, _SIZE)


def widen() -> None:
    """Give this thread a large signal stack. Call it after faulthandler has made its own, which it
    keeps. A forked child inherits it. If it is refused, the small one stays."""
    _sigaltstack(ctypes.byref(_stack), None)
