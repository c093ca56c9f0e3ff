"""How many jobs really run at once, whatever Redis says and whoever is killed.

A job takes a seat, a lock on a byte of a file, which the kernel frees when its process ends. One
that finds no free seat says so in a second file.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from pathlib import Path

from harness import jobs

_LOCK = "hhqqi4x"
"""The structure flock."""


def sit(path: str, seats: int, seconds: float) -> None:
    """A job: hold one of so many seats for so long."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(fd, path, seats)
        time.sleep(seconds)
    finally:
        os.close(fd)


def sit_until(path: str, seats: int, door: str) -> None:
    """A job: hold one until this gate is opened."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(fd, path, seats)
        jobs.wait_at(door)
    finally:
        os.close(fd)


def taken(path: Path, seats: int) -> int:
    """How many seats are held now. fcntl_locking(2), F_GETLK: none is taken to find out."""
    with path.open("r+b") as file:
        return sum(_is_taken(file.fileno(), seat) for seat in range(seats))


def _is_taken(fd: int, seat: int) -> bool:
    wanted = struct.pack(_LOCK, fcntl.F_WRLCK, os.SEEK_SET, seat, 1, 0)
    found = struct.unpack(_LOCK, fcntl.fcntl(fd, fcntl.F_GETLK, wanted))
    return found[0] != fcntl.F_UNLCK


def _take(fd: int, path: str, seats: int) -> None:
    for seat in range(seats):
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, seat)
        except BlockingIOError:
            continue
        return
    with Path(f"{path}.full").open("a") as full:
        full.write(f"{time.time()} {os.getpid()}\n")


def found_none(path: Path) -> list[str]:
    """A line for each job that has found no free seat."""
    full = path.with_name(f"{path.name}.full")
    return full.read_text().splitlines() if full.exists() else []
