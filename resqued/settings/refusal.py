"""What is wrong with a configuration, and the refusal to run with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from resqued.exits import ExitCode


@dataclass(frozen=True)
class Problem:
    """Something wrong, ready to be shown: source, value and remedy are in the text."""

    text: str
    exit_code: ExitCode = ExitCode.CONFIG
    detail: str = ""  # a traceback, for -v


_FIRST: Final = (ExitCode.USAGE, ExitCode.NO_PERMISSION, ExitCode.CONFIG)
"""Of several exit codes, the one that a user can do something about soonest."""


class Refused(Exception):
    """This cannot be run. Everything that is wrong, each with source, value and remedy."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(problem.text for problem in problems))
        self.errors = [problem.text for problem in problems]
        self.details = [problem.detail for problem in problems if problem.detail]
        codes = {problem.exit_code for problem in problems}
        self.exit_code = next((code for code in _FIRST if code in codes), min(codes))


def refuse(problems: Sequence[Problem]) -> None:
    """Raise Refused if there is any problem; each is told once."""
    if problems:
        raise Refused(list(dict.fromkeys(problems)))
