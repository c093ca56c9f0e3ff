"""Describe why a child has died."""

from __future__ import annotations

import os
import signal

from resqued.death import OUT_OF_MEMORY
from resqued.oom_kills import OomKills
from resqued.signals import name_of


def describe_death(status: int, oom_kills: OomKills) -> str:
    """The cause of death of a child that resqued has not killed. status: as os.wait4 gives it."""
    if not os.WIFSIGNALED(status):
        code = os.waitstatus_to_exitcode(status)
        return f"its process ended by itself, with exit status {code}"
    signum = os.WTERMSIG(status)
    text = f"its process was killed by {name_of(signum)}"
    if oom_kills.is_cause(status):
        text += f"; {OUT_OF_MEMORY}"
    elif signum == signal.SIGXCPU:
        text += ": over its limit of CPU time"
    elif os.WCOREDUMP(status):
        text += " (core dumped)"
    return text
