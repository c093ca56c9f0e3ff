"""The ledger: what jobs say they did, one line a start or an end, whatever becomes of them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.waiting import read_lines


def write(job_id: str, attempt: str, word: str) -> None:
    """`id attempt pid start|end nanoseconds`, with one O_APPEND write into RESQUED_LEDGER.

    In a worker. The time is CLOCK_MONOTONIC, which all processes of a machine share.
    """
    path = os.environ.get("RESQUED_LEDGER")
    if not path:
        return
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    line = f"{job_id} {attempt} {os.getpid()} {word} {time.monotonic_ns()}\n"
    os.write(fd, line.encode())
    os.close(fd)


@contextlib.contextmanager
def sole(job_id: str) -> Iterator[bool]:
    """Whether no other process runs an attempt of this id; while it lasts, none is told so.

    A byte of `RESQUED_LEDGER.running` is locked for each id: the kernel frees it when the
    process dies, so what died is not running, and what was put back while it runs is.
    """
    fd = -1
    try:
        path = f"{os.environ['RESQUED_LEDGER']}.running"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        place = int.from_bytes(hashlib.blake2b(job_id.encode(), digest_size=7).digest())
        alone = True
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except BlockingIOError:
            alone = False
        yield alone
    finally:
        if fd >= 0:
            os.close(fd)


@dataclass(frozen=True)
class Entry:
    job_id: str
    attempt: str
    pid: int
    word: str
    at: float
    """Seconds, monotonic."""


class Ledger:
    """The same file, read by a test."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[Entry]:
        lines = [line.split() for line in read_lines(self.path)]
        return [
            Entry(job_id, attempt, int(pid), word, int(at) / 1e9)
            for job_id, attempt, pid, word, at in lines
        ]

    def started(self, job_id: str | None = None) -> list[str]:
        """Ids in the order in which they began, once for each attempt."""
        return self._ids("start", job_id)

    def ended(self, job_id: str | None = None) -> list[str]:
        """Ids whose body came through, once for each time it did."""
        return self._ids("end", job_id)

    def pids(self) -> set[int]:
        return {entry.pid for entry in self.entries()}

    def _ids(self, word: str, job_id: str | None) -> list[str]:
        return [
            entry.job_id
            for entry in self.entries()
            if entry.word == word and job_id in (None, entry.job_id)
        ]

    def overlaps(self) -> list[str]:
        """Ids of which two attempts ran at the same time. An attempt without an end line was
        cut; when cannot be seen here, so only whole attempts are judged."""
        open_attempts: dict[str, set[str]] = {}
        whole = {(e.job_id, e.attempt) for e in self.entries() if e.word == "end"}
        twice = []
        for entry in self.entries():
            if (entry.job_id, entry.attempt) not in whole:
                continue
            running = open_attempts.setdefault(entry.job_id, set())
            if entry.word == "end":
                running.discard(entry.attempt)
            else:
                if running:
                    twice.append(entry.job_id)
                running.add(entry.attempt)
        return twice
