"""What an open descriptor leads to. In a module of its own, which costs nothing to import."""

from __future__ import annotations

import os


def identity(fd: int) -> tuple[int, int] | None:
    """What a descriptor leads to, so that one that was closed and used again can be recognized."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino
