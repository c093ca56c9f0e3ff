"""The back-off: how long to wait before a failed action is tried again."""

from __future__ import annotations

from typing import Final

LONGEST: Final = 30.0
"""Seconds between two tries, at most."""


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row: 0, 1, 2, 4 .. 30."""
    if failures <= 1:
        return 0.0
    return min(LONGEST, float(2 ** min(failures - 2, 10)))
