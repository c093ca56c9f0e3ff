"""The stack on which signals are met, large enough for all that may come at once.

Python has its handlers met on an alternate stack where there is one, and faulthandler makes one of
some kilobytes when it is first used. Signals that have waited, as for a process that was stopped,
come all at once and lie on it one upon the other, with three kilobytes each where the processor
has wide registers: the sixth or so ends the process with SIGSEGV.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Final

_SIZE: Final = 64 * 4096
"""Bytes: for as many signals as there are. Memory is taken only by those that come at once."""


class _Stack(ctypes.Structure):
    """stack_t of sigaltstack(2)."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


_sigaltstack: Final = ctypes.CDLL(None, use_errno=True).sigaltstack
_room: Final = mmap.mmap(-1, _SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
_stack: Final = _Stack(ctypes.addressof(ctypes.c_char.from_buffer(_room)), 0, _SIZE)


def widen() -> None:
    """Have the stack of this thread be a large one; once faulthandler has made its own, which it
    keeps. A child that is forked has it too. Where it is refused, the small one stays."""
    _sigaltstack(ctypes.byref(_stack), None)
