"""Wait for a fact, with a deadline that knows how slow the machine is now. The only place in the
tests that sleeps.

Every deadline of a test is multiplied by a measured factor: how much longer a fixed piece of work
takes than on a quiet machine with two cores. It is measured when the run begins, again where a
deadline is about to be missed, and is at least 1 and at most 10.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

T = TypeVar("T")

_WORK: Final = 0.033
"""Seconds that `_work` takes on a quiet machine."""

_START: Final = 0.012
"""Seconds that an interpreter takes there to start and end."""

_MOST: Final = 10.0
_AT_LEAST: Final = float(os.environ.get("RESQUED_TEST_SLOWER", "1"))


class WaitedTooLong(AssertionError):
    """The fact did not become true before its deadline."""


class Pace:
    """How much slower than a quiet one this machine is. One for each process of the run."""

    def __init__(self) -> None:
        self._at_start = _AT_LEAST
        self._now = 1.0
        self._measured = -1e9  # when, of the monotonic clock

    def begin(self) -> None:
        """Measure what stays for the run: with the start of a process. Takes 50 ms or more."""
        began = time.perf_counter()
        _work()
        subprocess.run([sys.executable, "-I", "-S", "-c", ""], check=True)
        took = time.perf_counter() - began
        self._at_start = max(_AT_LEAST, took / (_WORK + _START))

    def slower(self, fresh: float) -> float:
        """The factor. fresh: seconds that an earlier measure may be old."""
        if time.monotonic() - self._measured > fresh:
            began = time.perf_counter()
            _work()
            took = time.perf_counter() - began
            waiting = os.getloadavg()[0] / (os.cpu_count() or 1)
            self._now = max(took / _WORK, waiting)
            self._measured = time.monotonic()
        return min(_MOST, max(1.0, self._at_start, self._now))


def _work() -> int:
    """A fixed piece of work, long enough to be interrupted by others that want the processor."""
    total = 0
    for number in range(500_000):
        total += number * number % 7
    return total


PACE: Final = Pace()


def scaled(seconds: float) -> float:
    """A deadline, or a bound of a duration that has been measured, for the machine as it is now."""
    return seconds * PACE.slower(fresh=1.0)


def is_late(began: float, seconds: float) -> bool:
    """Whether so many seconds, on a quiet machine, are over since a time of the monotonic clock.
    The machine is measured anew before this is said."""
    passed = time.monotonic() - began
    return passed > seconds * PACE.slower(fresh=30.0) and passed > seconds * PACE.slower(fresh=0.0)


def wait_for(predicate: Callable[[], T], timeout: float = 10.0, what: str = "") -> T:
    """The first true answer of `predicate`, asked again every hundredth of a second.

    timeout: seconds on a quiet machine. what: names the fact in the failure, which shows the last
    answer too. Raises WaitedTooLong.
    """
    began = time.monotonic()
    while True:
        late = is_late(began, timeout)
        answer = predicate()  # once more, when it is late
        if answer:
            return answer
        if late:
            fact = what or getattr(predicate, "__name__", "it")
            raise WaitedTooLong(
                f"waited {time.monotonic() - began:.1f} s ({timeout:g} s on a quiet machine) for"
                f" {fact}; at last it was {answer!r}"
            )
        time.sleep(0.01)


def wait_for_exit(process: subprocess.Popen[Any], timeout: float = 10.0) -> int:
    """The exit status of a child, once it has one. Raises WaitedTooLong."""
    wait_for(lambda: process.poll() is not None, timeout, f"the end of {process.args}")
    return process.returncode


def stays_true(predicate: Callable[[], object], seconds: float, what: str) -> None:
    """Watch that something does not happen: `predicate` holds for that long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert predicate(), f"for {seconds:g} s this should have held: {what}"
        time.sleep(0.01)


def pause(seconds: float) -> None:
    """Let time pass, for what paces itself, as a plan of faults does. Never for a fact."""
    time.sleep(max(0.0, seconds))


def read_lines(path: Path) -> list[str]:
    """The whole lines of a file that others append to; none if it is not there yet."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    return text[: text.rfind("\n") + 1].splitlines()
