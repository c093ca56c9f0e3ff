"""The ends of the arbiter's own children: fork servers, adopted workers and stewards, strangers.

Known pids are waited for one by one, so that a plugin's subprocess keeps its exit status.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from resqued import logs
from resqued.core.events import Event, Heard
from resqued.core.state import StewardHandle, WorkerHandle
from resqued.death import Death
from resqued.groups import Groups
from resqued.messages import StewardExited, WorkerExited
from resqued.oom_kills import OomKills
from resqued.scoreboard import Phase, Scoreboard

STRANGER: Final = 5.0
"""Seconds for which an unknown zombie is left to a plugin that may still wait for it."""


class Children:
    """Children whose fork server is gone, and zombies that nothing waits for.

    groups: what is left in the process group of one that has ended is ended too.
    """

    def __init__(self, scoreboard: Scoreboard, groups: Groups) -> None:
        self._scoreboard = scoreboard
        self._groups = groups
        self._strangers: dict[int, float] = {}
        self._oom_kills = OomKills()

    @property
    def has_strangers(self) -> bool:
        """Whether unknown zombies have to be checked again."""
        return bool(self._strangers)

    def reap(
        self, workers: Iterable[WorkerHandle], stewards: Iterable[StewardHandle]
    ) -> Iterator[Event]:
        """Adopted workers and stewards that have ended."""
        adopted = [worker for worker in workers if worker.adopted and worker.pid is not None]
        for worker in adopted:
            if worker.pid is not None:
                yield from self._reap_worker(worker, worker.pid)
        if adopted:
            self._oom_kills.look(fresh=1.0)
        for steward in stewards:
            if steward.adopted and steward.pid is not None:
                ended, status = wait_for(steward.pid)
                if ended:
                    yield Heard(steward.generation, StewardExited(steward.serial, status))

    def _reap_worker(self, worker: WorkerHandle, pid: int) -> Iterator[Event]:
        self._groups.end(pid)
        ended, status, usage = _wait4(pid)
        if not ended:
            return
        record = self._scoreboard.read(worker.slot)
        if status is None:  # its fork server reaped it and died before it could report it
            status = 0 if record.phase is Phase.LEFT else signal.SIGKILL
        oom = self._oom_kills.is_cause(status)
        death = Death(worker.slot, status, usage, record, worker.queues, out_of_memory=oom)
        yield Heard(worker.generation, WorkerExited(worker.serial, pid, death))

    def reap_strangers(self, known: set[int]) -> None:
        """Reap zombies that nothing waits for: orphans, adopted by this process as subreaper or PID
        1."""
        now = time.monotonic()
        zombies = {pid for pid in _children() - known if _is_zombie(pid)}
        self._strangers = {pid: self._strangers.get(pid, now) for pid in zombies}
        for pid, since in self._strangers.items():
            if now - since > STRANGER:
                with contextlib.suppress(ChildProcessError):  # its waiter was slow
                    os.waitpid(pid, os.WNOHANG)
                    logs.debug(f"reaped a stranger, pid={pid}")


def wait_for(pid: int) -> tuple[int, int]:
    """Without blocking: the pid and the wait status of a child that has ended; (0, 0) else."""
    try:
        return os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return pid, signal.SIGKILL  # a plugin has reaped it


def is_child(pid: int) -> bool:
    """Whether it is a child of this process that has not been reaped."""
    if pid <= 0:
        return False
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _wait4(pid: int) -> tuple[int, int | None, dict[str, float]]:
    try:
        done, status, usage = os.wait4(pid, os.WNOHANG)
    except ChildProcessError:
        return pid, None, {}
    figures = {"utime": usage.ru_utime, "stime": usage.ru_stime, "maxrss": usage.ru_maxrss * 1024.0}
    return done, status, figures


def _children() -> set[int]:
    """Pids of all children of this process, from any thread. proc_pid_task(5)."""
    found: set[int] = set()
    with contextlib.suppress(OSError):  # no descriptor is left, or the thread has just ended
        for task in Path("/proc/self/task").iterdir():
            found.update(int(pid) for pid in (task / "children").read_text().split())
    return found


def _is_zombie(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:  # it has ended, or no descriptor is left
        return False
    return stat.rpartition(")")[2].split()[0] == "Z"
