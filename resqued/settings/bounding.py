"""A time limit for code that is not ours and runs in the arbiter: it must not hang."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class TookTooLong(BaseException):
    """Raised inside the code; not an Exception, so little of it swallows it."""


@contextlib.contextmanager
def bounded(limit: float | None) -> Iterator[None]:
    """Raise TookTooLong inside if it takes longer than `limit` seconds; None is no limit.

    Needs the main thread, and SIGALRM for itself.
    """
    if limit is None:
        yield
        return
    before = signal.signal(signal.SIGALRM, _expire)
    # again every second: code may swallow the first
    signal.setitimer(signal.ITIMER_REAL, limit, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def _expire(signum: int, frame: FrameType | None) -> None:
    raise TookTooLong
