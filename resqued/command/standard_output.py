"""Standard output for what was asked for alone, while code that is not resqued's own is loaded."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def kept_clean() -> Iterator[None]:
    """Send to standard error what is printed meanwhile, by C code and other processes too.

    A child that was forked meanwhile ends at the end of this, since it would answer as well.
    """
    pid, stdout = os.getpid(), sys.stdout
    stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stdout.flush()
        sys.stdout = stdout
        if os.getpid() != pid:
            os._exit(0)
        with contextlib.suppress(OSError, ValueError):
            stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def close() -> None:
    """After the answer: what is printed at the exit of the process goes to standard error."""
    os.dup2(2, 1)
