"""Which arbiter a command is for: the one that is named, or the only one that runs."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resqued.exits import ExitCode
from resqued.linux import lives
from resqued.scoreboard import Scoreboard
from resqued.status import arbiters


class NoArbiter(Exception):
    """There is none, or more than one. `exit_code` is what the command exits with."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.NOT_RUNNING) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def another_users(pid: int) -> NoArbiter:
    """For an arbiter whose scoreboard this user may not open."""
    text = f"the arbiter, pid {pid}, belongs to another user"
    return NoArbiter(text, ExitCode.NO_PERMISSION)


@dataclass(frozen=True)
class ChosenArbiter:
    """An arbiter. pid: 0 if only its socket is known. control: the socket's path; empty: none."""

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
        return _of_pid(pid_of_file(pid_file))
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
    return _of_pid(next(iter(found)))


def summary_of(pid: int) -> dict[str, Any]:
    """The arbiter's own part of its scoreboard; empty if it cannot be read."""
    try:
        for fd in arbiters.scoreboards(pid):
            board = Scoreboard(os.dup(fd), writable=False)
            try:
                return board.summary.read()
            finally:
                board.close()
    except (OSError, ValueError):
        pass  # it has ended, is another user's, or of another version
    return {}


def other_version(pid: int) -> str:
    """Why the scoreboard of this arbiter cannot be read by this version; empty if it can."""
    with contextlib.suppress(OSError):
        for fd in arbiters.scoreboards(pid):
            try:
                Scoreboard(os.dup(fd), writable=False).close()
            except ValueError as error:
                return str(error)
    return ""


def _of_socket(path: str) -> ChosenArbiter:
    try:
        owner = os.stat(path).st_uid  # noqa: PTH116
    except PermissionError as error:
        text = f"--control {path}: {error.strerror}"
        raise NoArbiter(text, ExitCode.NO_PERMISSION) from None
    except OSError as error:
        raise NoArbiter(f"--control {path}: {error.strerror}") from None
    for pid in arbiters.find():
        if _listens(pid, path):
            return ChosenArbiter(pid, path, owner)
    return ChosenArbiter(0, path, owner)


def _listens(pid: int, path: str) -> bool:
    """Whether this is the socket of an arbiter, by whatever name, as a link or a relative path."""
    control = summary_of(pid).get("control")
    if not control or control == path:
        return bool(control)
    with contextlib.suppress(OSError):
        return Path(path).samefile(f"/proc/{pid}/root{control}")
    return False


def read_pid(path: str) -> int:
    """The pid in a pid file, stale or not. Never waits, whatever file it is. Raises OSError,
    ValueError when there is none."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return int(os.read(fd, 32))
    finally:
        os.close(fd)


def pid_of_file(path: str) -> int:
    """The pid in a pid file, of an arbiter, as far as this user may see. Raises NoArbiter."""
    try:
        pid = read_pid(path)
    except FileNotFoundError:
        raise NoArbiter(f"not running: no pid file '{path}'") from None
    except PermissionError:
        text = f"pid file '{path}' may not be read"
        raise NoArbiter(text, ExitCode.NO_PERMISSION) from None
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else "there is no pid in it"
        raise NoArbiter(f"not running: pid file '{path}': {problem}") from None
    if not lives(pid, 0):
        raise NoArbiter(f"not running: pid file '{path}' names pid {pid}, which has ended")
    with contextlib.suppress(OSError):  # another user's
        if not any(True for _ in arbiters.scoreboards(pid)):
            raise NoArbiter(f"not running: pid file '{path}' names pid {pid}, which is no arbiter")
    return pid


def only_one() -> int:
    """The pid of the only arbiter of this user. Raises NoArbiter if there is none, or several."""
    found = arbiters.find()
    if not found:
        text = "not running: no arbiter of this user is to be found; --pid FILE names one"
        raise NoArbiter(text)
    if len(found) > 1:
        pids = ", ".join(f"pid {pid}" for pid in found)
        text = f"{len(found)} arbiters run here: {pids}; say which with --pid FILE"
        raise NoArbiter(text, ExitCode.USAGE)
    return found[0]


def _of_pid(pid: int) -> ChosenArbiter:
    try:
        owner = os.stat(f"/proc/{pid}").st_uid  # noqa: PTH116
    except OSError:
        raise NoArbiter(f"not running: pid {pid} has ended") from None
    try:
        any(arbiters.scoreboards(pid))
    except PermissionError:
        raise another_users(pid) from None
    except OSError:
        pass  # it has ended meanwhile
    return ChosenArbiter(pid, summary_of(pid).get("control", ""), owner)


def _line(pid: int, summary: dict[str, Any]) -> str:
    named = f" --name {summary['name']}" if summary.get("name") else ""
    config = f" {summary['config']}" if summary.get("config") else ""
    return f"pid {pid}{named} --control {summary.get('control') or 'none'}{config}"
