"""What processes and the server have spent between two moments: CPU, and round trips of clients."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

_TICK = 1 / os.sysconf("SC_CLK_TCK")


def cpu_of(pid: int) -> float:
    """Seconds of CPU of a process: of its threads, to the nanosecond, and of the children that it
    has waited for, to a hundredth. Nothing if it has gone."""
    total = 0.0
    with contextlib.suppress(OSError, psutil.Error):
        waited = psutil.Process(pid).cpu_times()
        total = waited.children_user + waited.children_system
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((thread / "schedstat").read_text().split()[0]) / 1e9
    return total


def cpu_by_role(roles: Mapping[int, str]) -> Counter[str]:
    """Seconds of CPU of processes, summed by their roles."""
    spent: Counter[str] = Counter()
    for pid, role in roles.items():
        spent[role] += cpu_of(pid)
    return spent


@dataclass(frozen=True)
class Spent:
    """What it took from one moment to another."""

    seconds: float
    cpu: Mapping[str, float]
    """Seconds of CPU by role: worker, arbiter, steward, fork server, parent; and the server's."""
    reads: int
    """How often the server has read from a client: one for each request that was sent, of
    whatever many commands; a large one is read in several pieces."""

    @property
    def tree(self) -> float:
        """Seconds of CPU of all processes but the server."""
        return sum(seconds for role, seconds in self.cpu.items() if role != "server")


class Meter:
    """Reads what has been spent since it was made.

    system: whose processes, asked for `roles()`. server: the pid of Redis. connection: to it; its
    own questions are not counted.
    """

    def __init__(self, system: Any, server: int, connection: Any) -> None:
        self._system, self._server, self._connection = system, server, connection
        self._reads = self._read()
        self._cpu = self._spent()
        self._began = time.monotonic()

    def read(self, questions: int = 0, ended: float | None = None) -> Spent:
        """questions: what the caller has sent meanwhile. ended: when it was over, of
        time.monotonic(); now, if it is not given."""
        seconds = (ended or time.monotonic()) - self._began
        cpu = self._spent()
        cpu.subtract(self._cpu)
        reads = self._read() - self._reads - questions - 1  # one for this question
        return Spent(seconds, {role: max(0.0, cpu[role]) for role in cpu}, reads)

    def _spent(self) -> Counter[str]:
        spent = cpu_by_role(self._system.roles())
        spent["server"] = cpu_of(self._server)
        return spent

    def _read(self) -> int:
        return int(self._connection.info("stats")["total_reads_processed"])


class Idleness:
    """Shares of one core, in percent, that the processes of a system use while nothing happens."""

    @classmethod
    def watch(cls, system: Any, seconds: float) -> Self:
        roles = system.roles()
        before, began = cpu_by_role(roles), time.monotonic()
        time.sleep(seconds)
        after, took = cpu_by_role(roles), time.monotonic() - began
        return cls({role: (after[role] - before[role]) / took * 100 for role in before})

    def __init__(self, percent: Mapping[str, float]) -> None:
        self.percent = percent


class Others:
    """How much of the machine others have used since this was made: figures beside a busy neighbour
    are not those of a quiet machine. To be read when all children have been waited for."""

    def __init__(self) -> None:
        self._began, self._busy, self._own = time.monotonic(), _busy(), sum(os.times()[:4])

    def percent(self) -> float:
        took = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        others = _busy() - self._busy - (sum(os.times()[:4]) - self._own)
        return max(0.0, others) / took * 100


def _busy() -> float:
    """Seconds of CPU that all cores have worked since the machine came up."""
    times = psutil.cpu_times()
    return sum(times[:10]) - times.idle - times.iowait - times.guest - times.guest_nice
