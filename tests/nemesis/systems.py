"""The systems that the nemesis strikes: resqued, and stock `rq worker-pool` for comparison."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import psutil

from harness import processes
from harness.command import BIN, TESTS, environment
from nemesis import load
from nemesis.plan import WEIGHTS

_TITLES = {
    "worker": re.compile(r"resqued: worker \d"),
    "fork server": re.compile(r"resqued: fork server"),
    "steward": re.compile(r"resqued: steward"),
}


class Started(Protocol):
    """One start of a system."""

    process: subprocess.Popen[bytes]

    def log(self) -> str:
        """All that it has written."""


class System:
    """What runs the jobs, over all its starts. launch: start it once."""

    name = ""
    faults = frozenset(WEIGHTS)
    """Those that make sense for it."""
    ends = frozenset({0})
    """Exit statuses after TERM."""

    def __init__(self, launch: Callable[[], Started]) -> None:
        self._launch = launch
        self.starts: list[Started] = []

    def start(self) -> None:
        self.starts.append(self._launch())

    @property
    def root(self) -> subprocess.Popen[bytes]:
        """The process at the top, of the last start."""
        return self.starts[-1].process

    def victims(self, kind: str) -> list[psutil.Process]:
        """The living processes of that kind, in the care of the last start."""
        raise NotImplementedError

    def registered(self) -> set[int]:
        """The pids of the living that are to be in `rq:workers`."""
        return {worker.pid for worker in self.victims("worker")}

    def left_registered(self) -> int:
        """How many dead names it has said to leave there, since Redis was away at a stop."""
        return 0


def takes(pid: int, signum: int) -> bool:
    """Whether a process has a handler for the signal, or holds it back until it has."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    masks = re.findall(r"^Sig(?:Blk|Cgt):\s*(\w+)$", status, re.MULTILINE)
    return any(int(mask, 16) >> (signum - 1) & 1 for mask in masks)


class Resqued(System):
    name = "resqued"
    ends = frozenset({0, 75})  # 75: Redis was away, the next start recovers

    EXPECTED_ERRORS = "|".join(
        (
            "told to fail|failed job|rq.worker|Traceback",
            r"fork server ended.*: signal 9",
            "leaving without having recovered",  # the next start finds them in Redis
            # RQ tells of a lost reply; resqued does it again
            "failed to persist failure of job|Failed to enqueue ready job",
            "Failed to drain ready dependents",
        )
    )

    @staticmethod
    def arguments(workers: int, pid_file: Path, policy: str) -> list[str]:
        """policy: what becomes of a job whose worker died, `fail` or `requeue`."""
        words = ["-n", str(workers), "--queue", "high", "--queue", "half=50%", "--queue", "*"]
        words += ["-r", load.__name__, "--pid", str(pid_file), "--on-worker-death", policy]
        if policy == "requeue":
            words += ["--max-deaths", "1000", "--max-interruptions", "1000"]
        return words

    def victims(self, kind: str) -> list[psutil.Process]:
        titled = {each: processes.title(each) for each in processes.descendants(self.root.pid)}
        return [each for each, title in titled.items() if _TITLES[kind].match(title)]

    def left_registered(self) -> int:
        told = "".join(start.log() for start in self.starts)
        return sum(map(int, re.findall(r"leaving (\d+) dead names? registered", told)))


class Pool(System):
    """A worker leaves its horse running when it is killed, and a pool its workers."""

    name = "stock"
    faults = frozenset(WEIGHTS) - {"fork server", "steward", "HUP", "USR2", "TTIN", "TTOU"}

    def victims(self, kind: str) -> list[psutil.Process]:
        """Workers and their horses, which lead a process group of their own."""
        found = processes.descendants(self.root.pid)
        return [each for each in found if _parent(each) == self.root.pid or _leads(each.pid)]

    def registered(self) -> set[int]:
        return set()

    @staticmethod
    def launch(
        workers: int,
        directory: Path,
        url: str,
        ledger: Path,
        queues: Sequence[str] = load.QUEUES,
    ) -> Callable[[], Started]:
        command = [str(BIN / "rq"), "worker-pool", *queues, "-u", url, "-n", str(workers)]

        def start() -> Started:
            with (directory / "output").open("ab") as output:
                process = subprocess.Popen(
                    command,
                    cwd=TESTS,
                    env=environment(RESQUED_LEDGER=str(ledger)),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            return _Pool(process, directory / "output")

        return start


class _Pool:
    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output

    def log(self) -> str:
        return self._output.read_text(errors="replace")


def _parent(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return 0


def _leads(pid: int) -> bool:
    try:
        return os.getpgid(pid) == pid
    except ProcessLookupError:
        return False
