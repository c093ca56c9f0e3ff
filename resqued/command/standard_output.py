"""Standard output for what was asked for alone, while code that is not resqued's own is loaded."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from resqued.exits import ExitCode

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


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


def written(work: Callable[[], int]) -> int:
    """Do something that prints; its exit status, once all is written. A reader that has left is no
    error. What else keeps the output from being written is one line on standard error, and the
    exit status 73 if all else is well. Letters that its encoding has not are escaped."""
    stdout = sys.stdout
    stdout.flush()
    raw = _Raw(stdout.fileno(), "w", closefd=False)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stdout.encoding,
        errors="backslashreplace" if stdout.errors == "strict" else stdout.errors,
        line_buffering=stdout.isatty(),
    )
    try:
        code = work()
        sys.stdout.flush()
    except (OSError, SystemExit):  # click ends so when the reader of a pipe has left
        if raw.problem is None:
            raise
        code = ExitCode.OK
    problem = raw.problem
    if problem is None:
        return code
    # what could not be written is written again, at the latest when the interpreter ends
    os.dup2(os.open(os.devnull, os.O_WRONLY), raw.fileno())
    if isinstance(problem, BrokenPipeError):
        return code
    with contextlib.suppress(OSError):
        text = f"standard output cannot be written: {problem.strerror}"
        print(text, file=sys.stderr, flush=True)
    return code or ExitCode.CANNOT_CREATE


class _Raw(io.FileIO):
    """Standard output that remembers why it could not be written."""

    problem: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.problem = error
            raise


def close() -> None:
    """After the answer: what is printed at the exit of the process goes to standard error."""
    os.dup2(2, 1)
