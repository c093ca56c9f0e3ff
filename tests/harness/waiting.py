"""Wait for a fact, with a deadline. The only place in the tests that sleeps."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

SLOWER = float(os.environ.get("RESQUED_TEST_SLOWER", "1"))
"""Every deadline is multiplied by it; for machines that are slow or busy."""


class WaitedTooLong(AssertionError):
    """The fact did not become true before its deadline."""


def wait_for(predicate: Callable[[], T], timeout: float = 10.0, what: str = "") -> T:
    """The first true answer of `predicate`, asked again every hundredth of a second.

    timeout: seconds. what: names the fact in the failure, which shows the last answer too.
    Raises WaitedTooLong.
    """
    deadline = time.monotonic() + timeout * SLOWER
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() > deadline:
            fact = what or getattr(predicate, "__name__", "it")
            raise WaitedTooLong(f"waited {timeout:g} s for {fact}; at last it was {answer!r}")
        time.sleep(0.01)


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
