"""The duties process: its calls, its limits, its ends."""

from __future__ import annotations

import pytest

from harness import processes
from harness.waiting import read_lines, wait_for


@pytest.fixture
def calls(tmp_path):
    """`calls()`: the lines that the duties have written so far."""
    path = tmp_path / "calls"
    return lambda: read_lines(path)


SAY = """
import os, pathlib, time

def say(text):
    with open("../calls", "a") as file:
        file.write(f"{text}\\n")
"""


def process_of(arbiter):
    """The one duties process."""
    found = duties_of(arbiter)
    return found[0] if len(found) == 1 else None


def duties_of(arbiter):
    return [
        child
        for child in processes.descendants(arbiter.pid)
        if processes.title(child).startswith("resqued: duties")
    ]


def test_a_duty_is_called_again_and_again(resqued, calls):
    arbiter = resqued(
        "-n",
        1,
        config=SAY
        + """
def duties(duties):
    duties.add("count", lambda duty: say(f"{duty.name} {duty.token} {os.getpid()}"), every=0.1)
""",
    )
    wait_for(lambda: len(calls()) >= 3)
    process = process_of(arbiter)
    assert set(calls()) == {f"count 0 {process.pid}"}
    assert processes.parent(process) == arbiter.fork_servers()[0].pid
    assert arbiter.stop("QUIT") == 0
    assert "Traceback" not in arbiter.log()
