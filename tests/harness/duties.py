"""A config file with duties that write down what they do, and the process that calls them."""

from __future__ import annotations

import textwrap

import psutil

from harness import processes
from harness.command import Resqued
from harness.waiting import wait_for

SAY = """
import ctypes, os, signal, subprocess, sys, time
from pathlib import Path

def say(text):
    fd = os.open("../calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{text}\\n".encode())
    os.close(fd)

"""


def duties_file(text: str) -> str:
    """A config file with `say(text)`, which writes a line of `calls`."""
    return SAY + textwrap.dedent(text)


def all_of(arbiter: Resqued) -> list[psutil.Process]:
    """The duties processes that live."""
    return [
        each
        for each in processes.descendants(arbiter.pid)
        if processes.title(each).startswith("resqued: duties")
    ]


def wait_for_process(arbiter: Resqued, other_than: int = 0, timeout: float = 10) -> psutil.Process:
    """Wait until there is exactly one, a new one."""

    def new() -> psutil.Process | None:
        found = all_of(arbiter)
        return found[0] if len(found) == 1 and found[0].pid != other_than else None

    process = wait_for(new, timeout, "a duties process")
    assert process is not None
    return process
