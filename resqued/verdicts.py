"""Verdicts and vetoes: what a hook may return or raise to decide something."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Verdict:
    """An answer of `worker_stuck`: what the arbiter does with a worker past its deadline."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Wait(Verdict):
    """Leave the worker alone for `seconds` more, then ask again."""

    seconds: float

    def __init__(self, seconds: float) -> None:
        object.__setattr__(self, "name", "wait")
        object.__setattr__(self, "seconds", float(seconds))


@dataclass(frozen=True)
class Fail(Verdict):
    """Interrupt the job, and fail it with `reason`, whatever its retries; the worker is killed 3
    seconds later if the job resists. Error trackers are told; the job's failure callback is not
    called. A job whose own code has ended keeps its outcome: then the worker is killed."""

    reason: str

    def __init__(self, reason: str) -> None:
        object.__setattr__(self, "name", "fail")
        object.__setattr__(self, "reason", str(reason))


Dump = Verdict("dump")
"""Write the stacks of all its threads into the log, then ask again a second later."""

Terminate = Verdict("terminate")
"""Interrupt the job (it is put back or failed as RQ would), again after a second, and ask again
after three: only the next answer kills. If no plugin gives one, the worker is killed."""

Kill = Verdict("kill")
"""SIGKILL the worker's process group; its job is recovered."""


class VetoFork(Exception):
    """Raised by `before_fork`: do not fork this worker now; try again in `retry_after` seconds.

    From 0.1 to 3600 seconds; what is outside is taken for the nearest of these. What is no number
    is an error in the log, and a second.
    """

    SHORTEST: Final = 0.1
    LONGEST: Final = 3600.0
    USUAL: Final = 1.0

    def __init__(self, reason: str, retry_after: float = USUAL) -> None:
        super().__init__(reason)
        self.reason = str(reason)
        self.retry_after = retry_after

    @property
    def is_valid(self) -> bool:
        """Whether `retry_after` is a number."""
        value: object = self.retry_after
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and not math.isnan(self.retry_after)

    @property
    def seconds(self) -> float:
        """Until the next try, within the limits."""
        if not self.is_valid:
            return self.USUAL
        return float(min(max(self.retry_after, self.SHORTEST), self.LONGEST))


class ConfigError(Exception):
    """An invalid setting: names the setting, its value, where it came from and the remedy.

    `ConfigError("workers", "fewer workers than queues")` from a `configure` hook stops the start
    (exit 78); on a reload the old configuration stays in force. A single argument is the problem,
    and no setting is named.
    """

    def __init__(
        self, setting: str, problem: str = "", *, remedy: str = "", source: str = ""
    ) -> None:
        if not problem:
            setting, problem = "", setting
        super().__init__(setting, problem)
        self.setting = setting
        self.problem = problem
        self.remedy = remedy
        self.source = source

    def __str__(self) -> str:
        where = f"{self.source}: " if self.source else ""
        named = f"{self.setting}: " if self.setting else ""
        text = f"{where}{named}{self.problem}"
        return f"{text}\n  {self.remedy}" if self.remedy else text
