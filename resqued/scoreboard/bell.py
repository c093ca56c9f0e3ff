"""A bell: a word in shared memory over which many processes sleep, and of whom one is woken.

It costs the same with a thousand sleepers as with one, and nothing is left behind by one that is
killed. Whoever needs more than a hint has to hold a lock: a ring may find nobody. futex(2).
"""

from __future__ import annotations

import ctypes
import errno
import platform
import random
import sys
from typing import Final

_NUMBERS: Final = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221, "s390x": 238}
"""Of the system call, by machine; syscall(2) has no name for it."""

_WAIT: Final = 0
_WAKE: Final = 1
_AGAIN: Final = frozenset({errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT})


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_int64), ("nanoseconds", ctypes.c_int64))


# Looked up at import: a child that has just been forked should not have to load anything.
_number: Final = _NUMBERS.get(platform.machine(), 0) if sys.maxsize > 2**32 else 0
_syscall: Final = ctypes.CDLL(None, use_errno=True).syscall
_syscall.argtypes = [ctypes.c_long, ctypes.c_void_p, ctypes.c_long, ctypes.c_uint32]
_syscall.argtypes += [ctypes.c_void_p]
_syscall.restype = ctypes.c_long


class Bell:
    """One such word. address: of its four bytes, in memory that all share; it has to stay mapped.

    Methods raise OSError where there is no such call, or it is forbidden.
    """

    def __init__(self, address: int) -> None:
        if not _number:
            raise OSError(errno.ENOSYS, "no futex is known for this machine")
        self._word = ctypes.c_uint32.from_address(address)
        self._address = address

    @property
    def rung(self) -> int:
        """To be read before whatever one looks at in vain, and given to `sleep`."""
        return self._word.value

    def sleep(self, rung: int, seconds: float) -> bool:
        """Until it is rung for us, a signal has come, or time is over; whether it was rung since
        `rung` was read. Other threads run meanwhile, and signal handlers right after it."""
        whole = max(0, int(seconds))
        time = _Time(whole, max(0, int((seconds - whole) * 1e9)))
        _call(self._address, _WAIT, rung, ctypes.addressof(time))
        return self._word.value != rung

    def change(self) -> None:
        """Nobody who has read `rung` before goes to sleep any more; nobody is woken."""
        self._word.value = random.getrandbits(32)

    def ring(self) -> None:
        """The same, and wake one, whoever has slept longest."""
        self.change()
        _call(self._address, _WAKE, 1, None)


def _call(address: int, operation: int, value: int, time: int | None) -> None:
    if _syscall(_number, address, operation, value, time) == -1:
        code = ctypes.get_errno()
        if code not in _AGAIN:
            raise OSError(code, "futex")
