"""Deadlines in the tests: all of them scale with the machine, so that a busy one fails no test."""

from __future__ import annotations

import ast
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import waiting
from harness.waiting import Pace, WaitedTooLong, is_late, scaled, wait_for

TESTS = Path(__file__).parent
APART = {"benchmarks", "conformance"}  # programs that measure, or run somebody else's tests

WAITS = {"wait", "join", "settimeout"}
CLOCKS = {"time.monotonic", "time.time", "time.perf_counter"}


def fixed_deadlines(source: str) -> Iterator[int]:
    """The lines with a deadline in seconds that does not scale: `process.wait(10)`,
    `run(..., timeout=10)`, and `time.monotonic() - began < 10`.

    `wait_for` and what is built on it scale by themselves, as does `Resqued.exit`.
    """
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(ast.Attribute(attr=name), [ast.Constant(int() | float())]):
                if name in WAITS and "Event()" not in ast.unparse(node.func):
                    yield node.lineno
            case ast.Call(ast.Attribute(attr="communicate" | "check_output" | "run")):
                if any(
                    each.arg == "timeout" and isinstance(each.value, ast.Constant)
                    for each in node.keywords
                ):
                    yield node.lineno
            case ast.Compare(left, [ast.Lt() | ast.LtE()], [ast.Constant(int() | float())]):
                calls = [ast.unparse(each.func) for each in ast.walk(left) if is_call(each)]
                if CLOCKS & set(calls):
                    yield node.lineno


def is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call)


@pytest.mark.parametrize(
    "line",
    [
        "process.wait(10)",
        "thread.join(0.5)",
        "link.settimeout(5)",
        "subprocess.run(words, timeout=30)",
        "process.communicate(timeout=30)",
        "assert time.monotonic() - began < 5",
    ],
)
def test_a_deadline_that_does_not_scale_is_found(line: str):
    assert list(fixed_deadlines(line)) == [1]


@pytest.mark.parametrize(
    "line",
    [
        "process.wait(scaled(10))",
        "process.wait()",
        "','.join(words)",
        "arbiter.exit(20)",
        "assert time.monotonic() - began < scaled(5)",
        "threading.Event().wait(60)",  # something that hangs, in a sample
    ],
)
def test_what_scales_or_is_none_is_left_alone(line: str):
    assert list(fixed_deadlines(line)) == []


def test_every_deadline_of_the_tests_scales():
    """Reads the sources of all tests."""
    found = [
        f"{path.relative_to(TESTS)}, line {line}"
        for path in TESTS.rglob("*.py")
        if path.relative_to(TESTS).parts[0] not in APART
        for line in fixed_deadlines(path.read_text())
    ]
    assert not found


def test_the_factor_is_measured_and_bounded():
    """From 1 to 10, whatever the machine; a measure that is fresh enough is not made again."""
    pace = Pace()
    factor = pace.slower(fresh=0.0)
    assert 1 <= factor <= 10
    began = time.process_time()
    assert all(pace.slower(fresh=1000.0) == factor for _ in range(100))
    assert time.process_time() - began < scaled(0.02)


class Busy(Pace):
    """A machine that turns out to be slower when it is looked at again."""

    def slower(self, fresh: float) -> float:
        return 1.0 if fresh else 4.0


def test_a_wait_is_given_up_only_after_the_machine_was_looked_at_again(monkeypatch):
    """A fact that comes after the deadline of a quiet machine, and in time for this one."""
    monkeypatch.setattr(waiting, "PACE", Busy())
    began = time.monotonic()
    assert wait_for(lambda: time.monotonic() - began > 0.15, 0.1)
    assert not is_late(time.monotonic() - 0.15, 0.1)
    began = time.monotonic()
    with pytest.raises(WaitedTooLong, match=r"\(0.1 s on a quiet machine\) for nothing"):
        wait_for(lambda: False, 0.1, "nothing")
    assert time.monotonic() - began >= 0.4
