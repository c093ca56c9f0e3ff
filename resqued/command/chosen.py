"""Which arbiter a command is for: the one that is named, or the only one that runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resqued.arbiter import pidfile
from resqued.command import arbiters
from resqued.exits import ExitCode
from resqued.scoreboard import Scoreboard


class NoArbiter(Exception):
    """There is none, or more than one. `exit_code` is what the command exits with."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.NOT_RUNNING) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class ChosenArbiter:
    """An arbiter. pid: 0 if only its socket is named."""

    pid: int
    control: str
    owner: int  # uid

    def summary(self) -> dict[str, Any]:
        """What it says of itself on the scoreboard now; empty if that cannot be read."""
        return summary_of(self.pid) if self.pid else {}


def choose(*, pid_file: str | None, control: str | None, name: str | None) -> ChosenArbiter:
    """Raises NoArbiter."""
    if control is not None:
        return _of_socket(control)
    if pid_file is not None:
        return _of_pid(_read(pid_file), f"pid file '{pid_file}'")
    found = {pid: summary_of(pid) for pid in arbiters.find()}
    if name is not None:
        found = {pid: summary for pid, summary in found.items() if summary.get("name") == name}
    if not found:
        called = f" called '{name}'" if name is not None else ""
        raise NoArbiter(f"not running: no arbiter{called} of this user is to be found")
    if len(found) > 1:
        lines = "".join(f"\n  {_line(pid, summary)}" for pid, summary in found.items())
        raise NoArbiter(
            f"{len(found)} arbiters run here; say which with --pid FILE, --control PATH or"
            f" --name NAME:{lines}",
            ExitCode.USAGE,
        )
    return _of_pid(next(iter(found)), "the scoreboard")


def summary_of(pid: int) -> dict[str, Any]:
    """The arbiter's own part of its scoreboard; empty if it cannot be read."""
    try:
        for fd in arbiters.scoreboards(pid):
            board = Scoreboard(os.dup(fd), writable=False)
            try:
                return board.summary()
            finally:
                board.close()
    except (OSError, ValueError):
        pass  # it has ended, is another user's, or of another version
    return {}


def _of_socket(path: str) -> ChosenArbiter:
    try:
        owner = os.stat(path).st_uid  # noqa: PTH116
    except OSError as error:
        raise NoArbiter(f"--control {path}: {error.strerror}") from None
    for pid in arbiters.find():
        if summary_of(pid).get("control") == path:
            return ChosenArbiter(pid, path, owner)
    return ChosenArbiter(0, path, owner)


def _read(pid_file: str) -> int:
    try:
        pid = pidfile.read_pid(pid_file)
    except PermissionError:
        text = f"pid file '{pid_file}' may not be read"
        raise NoArbiter(text, ExitCode.NO_PERMISSION) from None
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else "there is no pid in it"
        raise NoArbiter(f"not running: pid file '{pid_file}': {problem}") from None
    if pid <= 0 or not Path(f"/proc/{pid}").exists():
        raise NoArbiter(f"not running: pid file '{pid_file}' names pid {pid}, which has ended")
    return pid


def _of_pid(pid: int, source: str) -> ChosenArbiter:
    summary = summary_of(pid)
    if not summary:
        text = f"{source} names pid {pid}, which is no arbiter of this user and this version"
        raise NoArbiter(text)
    if not summary.get("control"):
        text = f"the arbiter, pid {pid}, has no control socket (its log says why); signals reach it"
        raise NoArbiter(text)
    return ChosenArbiter(pid, summary["control"], os.stat(f"/proc/{pid}").st_uid)  # noqa: PTH116


def _line(pid: int, summary: dict[str, Any]) -> str:
    named = f" --name {summary['name']}" if summary.get("name") else ""
    config = f" {summary['config']}" if summary.get("config") else ""
    return f"pid {pid}{named} --control {summary.get('control') or 'none'}{config}"
