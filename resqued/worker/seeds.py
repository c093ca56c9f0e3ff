"""Random numbers after a fork: no two processes have the same."""

from __future__ import annotations

import contextlib
import sys
from typing import Any


def reseed() -> None:
    """Python seeds its own generator after a fork; that of numpy would be the same in all.

    Generators that the application has made itself are its own affair: see after_fork. Runs in a
    fresh child.
    """
    numpy: Any = sys.modules.get("numpy.random")
    if numpy is not None:
        with contextlib.suppress(Exception):
            numpy.seed()
