"""A bell: a futex in shared memory on which many processes sleep, and which wakes one, or all.

Its cost does not grow with the number of sleepers, and a killed sleeper leaves nothing behind. A
ring is only a hint, since it may find no sleeper. futex(2).
"""

from __future__ import annotations

import ctypes
import errno
import platform
import random
import sys
from typing import Final

_NUMBERS: Final = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221, "s390x": 238}
"""Numbers of the system call futex, by machine; see syscall(2)."""

_WAIT: Final = 0
_WAKE: Final = 1
_ALL: Final = 2**31 - 1
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
    """One futex. address: of its four bytes in shared memory, which has to stay mapped.

    Methods raise OSError where the system call is missing or forbidden.
    """

    def __init__(self, address: int) -> None:
        if not _number:
            raise OSError(errno.ENOSYS, "no futex is known for this machine")
        self._word = ctypes.c_uint32.from_address(address)
        self._address = address

    @property
    def rung(self) -> int:
        """The value to give to `sleep`; read it before the check whose failure leads to the
        sleep."""
        return self._word.value

    def sleep(self, rung: int, seconds: float) -> bool:
        """Sleep until a ring, a signal or the time limit; whether it was rung since `rung` was
        read. Other threads run meanwhile, and signal handlers right after it."""
        whole = max(0, int(seconds))
        time = _Time(whole, max(0, int((seconds - whole) * 1e9)))
        _call(self._address, _WAIT, rung, ctypes.addressof(time))
        return self._word.value != rung

    def change(self) -> None:
        """Keep every process that has read `rung` before from going to sleep; wake none."""
        self._word.value = random.getrandbits(32)

    def ring(self) -> None:
        """The same as `change`, and wake the process that has slept longest."""
        self.change()
        _call(self._address, _WAKE, 1, None)

    def ring_all(self) -> None:
        """The same as `change`, and wake every process that sleeps."""
        self.change()
        _call(self._address, _WAKE, _ALL, None)


def _call(address: int, operation: int, value: int, time: int | None) -> None:
    if _syscall(_number, address, operation, value, time) == -1:
        code = ctypes.get_errno()
        if code not in _AGAIN:
            raise OSError(code, "futex")
