"""Exit codes of the command (sysexits, for service files), and refusals of what cannot run."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


class ExitCode(enum.IntEnum):
    """What `resqued` exits with. `meaning` is its line in the documentation."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> ExitCode:
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "stopped because it was asked to, or a burst is done"
    USAGE = 64, "wrong command line"
    NOT_RUNNING = 69, "--status: no such arbiter runs; with --ready: no worker is ready"
    GAVE_UP = (
        70,
        "before the first worker was ready, every slot, or the fork server, had died three times;"
        " if killed by SIGKILL, six times in 15 s",
    )
    NO_SYSTEM = 71, "the system lacks or forbids what resqued needs: Linux, memfd, eventfd, prctl"
    CANNOT_CREATE = 73, "a file (pid file, log, standard output) cannot be created or written"
    TRY_LATER = 75, "already running, or left with jobs that the next start will recover"
    NO_PERMISSION = 77, "a file may not be read, or others could write to it"
    CONFIG = 78, "the configuration, a plugin or the application's import is wrong"


@dataclass(frozen=True)
class Problem:
    """Something wrong with what a user has set, ready to be shown: thing, value, source, remedy."""

    text: str
    exit_code: ExitCode = ExitCode.CONFIG
    detail: str = ""  # a traceback, for -v


_FIRST: Final = (ExitCode.USAGE, ExitCode.NO_PERMISSION, ExitCode.CONFIG)
"""Of several exit codes, the one that a user can do something about soonest."""


class InvalidSettings(Exception):
    """The program cannot run with these settings: all the problems of them."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        problems = list(dict.fromkeys(problems))
        self.errors = [problem.text for problem in problems]
        self.details = [problem.detail for problem in problems if problem.detail]
        super().__init__("\n".join(self.errors))
        codes = {problem.exit_code for problem in problems}
        self.exit_code = next((code for code in _FIRST if code in codes), min(codes))


def refuse(problems: Iterable[Problem]) -> None:
    """Raise InvalidSettings if there is any problem."""
    problems = list(problems)
    if problems:
        raise InvalidSettings(problems)
