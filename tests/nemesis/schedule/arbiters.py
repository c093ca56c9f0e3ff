"""The three arbiters and the stock worker: how they are started, struck and ended."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil

from harness import processes
from harness.command import BIN, TESTS, Resqued, environment
from harness.waiting import WaitedTooLong, wait_for, wait_for_exit
from nemesis.schedule import unserved
from nemesis.schedule.plan import QUEUES, STOCK
from nemesis.systems import takes

Launch = Callable[[], Resqued]

PATIENCE = 20.0
"""Seconds that one may take to come up, or to leave after TERM or QUIT."""

EXPECTED_ERRORS = r"(fork server|steward|duties).* ended.*: signal 9"

_ENDS = (0, 75)
"""Exit statuses after TERM; 75: a reply of the last moment was lost, the next start recovers."""

_TITLES = {
    "steward": re.compile(r"resqued: steward"),
    "duties": re.compile(r"resqued: duties"),
    "fork server": re.compile(r"resqued: fork server"),
}


def arguments(deploys: bool) -> list[str]:
    """Of each arbiter. Its one worker serves a queue without jobs. deploys: whether each load
    brings other definitions of the periodic jobs."""
    cron = f"{__package__}.{'deployed' if deploys else 'unchanged'}"
    words = ["-n", "1", "--cron", cron, "-p", unserved.__name__, "--queue", "idle"]
    for queue in QUEUES:
        words += ["--queue", queue]
    return words


class Arbiter:
    """One of the three, over all its starts. Used by one thread at a time."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._paused: list[int] = []
        self.starts: list[Resqued] = []

    @property
    def _last(self) -> Resqued:
        return self.starts[-1]

    def start(self) -> None:
        self.starts.append(self._launch())

    def kill(self, kind: str) -> bool:
        """All of it, or a process of this kind; False if there is none."""
        if kind == "all":
            self._last.destroy()
            return True
        found = [
            each
            for each in processes.descendants(self._last.pid)
            if _TITLES[kind].match(processes.title(each))
        ]
        for each in found[:1]:
            _send(each.pid, signal.SIGKILL)
        return bool(found)

    def pause(self) -> None:
        """SIGSTOP to each of its processes, the arbiter first."""
        root = self._last.pid
        self._paused = [root]
        _send(root, signal.SIGSTOP)
        while more := [pid for pid in _pids(root) if pid not in self._paused]:
            for pid in more:
                _send(pid, signal.SIGSTOP)
            self._paused += more

    def go_on(self) -> None:
        paused, self._paused = self._paused, []
        for pid in reversed(paused):
            _send(pid, signal.SIGCONT)

    def tell(self, name: str) -> None:
        """Send a signal by its short name, once there is a handler for it: before, it would end any
        program. Raises WaitedTooLong."""
        signum, pid = signal.Signals[f"SIG{name}"], self._last.pid
        wait_for(lambda: takes(pid, signum), PATIENCE, f"pid {pid} to be ready for {name}")
        self._last.signal(name)

    def wait_until_gone(self) -> None:
        """After TERM or QUIT. Raises WaitedTooLong, and AssertionError for another exit status."""
        status = self._last.exit(PATIENCE)
        assert status in _ENDS, f"left with {status}\n{self._last.story()}"

    def is_up(self) -> bool:
        """Whether it has a fork server, a steward and a duties process."""
        titles = [processes.title(each) for each in processes.descendants(self._last.pid)]
        return all(any(map(pattern.match, titles)) for pattern in _TITLES.values())

    @property
    def running(self) -> bool:
        return bool(self.starts) and self._last.running


class StockWorker:
    """`rq worker --with-scheduler`. The ledger gets a line for each job that it runs."""

    def __init__(self, directory: Path, url: str) -> None:
        self.ledger = directory / "ledger"
        self._output = directory / "output"
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [str(BIN / "rq"), "worker", STOCK, "--with-scheduler", "-u", url],
                cwd=TESTS,
                env=environment(RESQUED_LEDGER=str(self.ledger)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def end(self) -> list[str]:
        """What went wrong in it; it has left then."""
        self._process.terminate()
        try:
            wait_for_exit(self._process, 2 * PATIENCE)
        except WaitedTooLong as error:
            self._process.kill()
            self._process.wait()
            return [str(error)]
        lines = self._output.read_text(errors="replace").splitlines()
        return [f"stock worker: {line}" for line in lines if "Traceback" in line]


def wait_until_up(arbiters: list[Arbiter]) -> None:
    """Raises WaitedTooLong."""
    for each in arbiters:
        wait_for(each.is_up, PATIENCE, "a steward and a duties process")


def _pids(root: int) -> list[int]:
    return [each.pid for each in processes.descendants(root)]


def _send(pid: int, signum: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
        os.kill(pid, signum)
