"""Moves the application's memory into huge pages, where workers fork a child for each job.

A fork copies an entry for each page: 30,000 pages of 4 KiB for an application of 120 MB, or 60 of
2 MiB. A write to a part of a shared huge page still copies only 4 KiB.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import time
from collections.abc import Iterator
from typing import Final

_HUGE: Final = 2 * 2**20
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_MADV_COLLAPSE: Final = 25
_PRESENT: Final = 1 << 63
_FULL: Final = 0.9
"""The share of a huge page that has to be in use already; the rest becomes used too."""

_LIMIT: Final = 2.0
"""Seconds for all pages: the kernel may have to move other memory."""

_madvise: Final = ctypes.CDLL(None, use_errno=True).madvise
_madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def collapse() -> int:
    """Move this process's private memory into huge pages; return how many were made.

    madvise(2), MADV_COLLAPSE, since Linux 6.1; does nothing before. Runs in the fork server, once.
    """
    until, done = time.monotonic() + _LIMIT, 0
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:  # noqa: PTH123
            for begin, end in list(_regions()):
                first = -(-begin // _HUGE) * _HUGE
                for address in range(first, end - _HUGE + 1, _HUGE):
                    if not _is_full(pagemap.fileno(), address):
                        continue
                    if _madvise(address, _HUGE, _MADV_COLLAPSE) == 0:
                        done += 1
                    elif ctypes.get_errno() == errno.EINVAL:  # an older kernel, or switched off
                        return done
                    if time.monotonic() >= until:
                        return done
    except OSError:  # forbidden here
        pass
    return done


def _regions() -> Iterator[tuple[int, int]]:
    """Regions of private memory without a file: proc_pid_maps(5)."""
    with open("/proc/self/maps", "rb") as maps:  # noqa: PTH123
        for line in maps:
            words = line.split()
            if words[1] == b"rw-p" and (len(words) == 5 or words[5] == b"[heap]"):
                begin, _, end = words[0].partition(b"-")
                yield int(begin, 16), int(end, 16)


def _is_full(pagemap: int, address: int) -> bool:
    """Whether enough of a huge page is in use: proc_pid_pagemap(5)."""
    count = _HUGE // _PAGE
    raw = os.pread(pagemap, 8 * count, address // _PAGE * 8)
    entries: tuple[int, ...] = struct.unpack(f"={len(raw) // 8}Q", raw)
    return sum(map(_PRESENT.__le__, entries)) >= count * _FULL
