"""The ledger: what jobs say they did, one line a start or an end, whatever becomes of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness.waiting import read_lines


def write(job_id: str, attempt: str, word: str) -> None:
    """`id attempt pid start|end`, with one O_APPEND write into RESQUED_LEDGER. In a worker."""
    path = os.environ.get("RESQUED_LEDGER")
    if not path:
        return
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(fd, f"{job_id} {attempt} {os.getpid()} {word}\n".encode())
    os.close(fd)


@dataclass(frozen=True)
class Entry:
    job_id: str
    attempt: str
    pid: int
    word: str


class Ledger:
    """The same file, read by a test."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[Entry]:
        lines = [line.split() for line in read_lines(self.path)]
        return [Entry(job_id, attempt, int(pid), word) for job_id, attempt, pid, word in lines]

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
