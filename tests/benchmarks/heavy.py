"""An application whose import takes half a second of CPU and 100 MB, in small Python objects."""

from __future__ import annotations

import time

SECONDS = 0.5
OBJECTS = 480_000

_began = time.process_time()

TABLE = {number: (str(number), float(number)) for number in range(OBJECTS)}
"""What a real application has plenty of: objects whose reference counts live beside them."""

while time.process_time() - _began < SECONDS:
    pass


def nothing() -> None:
    """A job that does nothing."""


def look_up(number: int, seconds: float = 0.0) -> str:
    """A job that reads a little of what is shared, and takes its time for it."""
    time.sleep(seconds)
    return TABLE[number % OBJECTS][0]
