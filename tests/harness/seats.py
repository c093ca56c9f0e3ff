"""How many jobs really run at once, whatever Redis says and whoever is killed.

A job takes a seat, a lock on a byte of a file, which the kernel frees when its process ends. One
that finds no free seat says so in a second file.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path


def sit(path: str, seats: int, seconds: float) -> None:
    """A job: hold one of so many seats for so long."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for seat in range(seats):
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, seat)
            except BlockingIOError:
                continue
            time.sleep(seconds)
            return
        with Path(f"{path}.full").open("a") as full:
            full.write(f"{time.time()} {os.getpid()}\n")
        time.sleep(seconds)
    finally:
        os.close(fd)


def found_none(path: Path) -> list[str]:
    """A line for each job that has found no free seat."""
    full = path.with_name(f"{path.name}.full")
    return full.read_text().splitlines() if full.exists() else []
