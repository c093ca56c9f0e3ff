"""Remembers what the processes of a generation have logged, so that it is logged once."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import zlib
from typing import Final

CRASH: Final = "crash"
"""Noted by a fork server when a child has crashed in its exit and its stacks were logged."""


class Notes:
    """A set of texts in memory that all children of a fork server share.

    lock: a descriptor that they share, of a file whose bytes are locked here and not touched.
    """

    _SIZE: Final = 4096

    def __init__(self, lock: int) -> None:
        self._lock = lock
        self._page = mmap.mmap(-1, self._SIZE)

    def has(self, text: str) -> bool:
        """Whether a process has noted this. Rarely, two texts are taken for one."""
        return bool(self._page[self._place(text)])

    def first(self, text: str) -> bool:
        """Note it; whether no process had before. Never waits for a lock."""
        place = self._place(text)
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except (BlockingIOError, PermissionError):
            return False  # another process is noting it now
        except OSError:
            pass  # a job has closed it
        new = not self._page[place]
        self._page[place] = 1
        with contextlib.suppress(OSError):
            fcntl.lockf(self._lock, fcntl.LOCK_UN, 1, place)
        return new

    def _place(self, text: str) -> int:
        return zlib.crc32(text.encode(errors="replace")) % self._SIZE
