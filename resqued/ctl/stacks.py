"""The stacks of workers, for `resquedctl stacks`: nothing is killed, and the loop is not asked.

faulthandler writes them on the signal DUMP, also from inside C code, to a memfd of the worker's
generation. Before the signal is sent the kernel is asked whether the process has a handler for it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from resqued.signal_table import DUMP
from resqued.status.process import process_state
from resqued.status.reader import WorkerLine

_PATIENCE: Final = 3.0
"""Seconds for the stacks to be written."""

_SETTLED: Final = 0.05
"""Seconds without a further line after which they are whole."""

_LONGEST: Final = 256 * 1024  # bytes


class NoStacks(Exception):
    """They cannot be had. The message says why."""


@dataclass(frozen=True)
class _Process:
    """What runs the job, or the worker itself."""

    pid: int
    pidfd: int


def stacks(arbiter: int, line: WorkerLine) -> str:
    """The stacks of all threads of what runs the worker's job (its child with fork isolation), or
    of the worker itself. Raises NoStacks."""
    pid = line.horse or line.pid
    if pid is None:
        raise NoStacks("it has no process now")
    with _dumps(arbiter, line.generation) as dumps, _held(pid) as process:
        _check(process.pid)
        begin = os.fstat(dumps).st_size
        signal.pidfd_send_signal(process.pidfd, DUMP)
        return _written(dumps, begin, process.pid)


@contextlib.contextmanager
def _held(pid: int) -> Iterator[_Process]:
    """A process, and no other one that gets its pid later."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        raise NoStacks(f"pid {pid}: {error.strerror}") from None
    try:
        yield _Process(pid, pidfd)
    finally:
        os.close(pidfd)


@contextlib.contextmanager
def _dumps(arbiter: int, generation: int) -> Iterator[int]:
    """The memfd for the stacks of a generation, as the arbiter has it open."""
    name = f"/memfd:resqued-stacks-{generation} "
    try:
        for link in Path(f"/proc/{arbiter}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if f"{link.readlink()} ".startswith(name):
                    fd = os.open(link, os.O_RDONLY | os.O_CLOEXEC)
                    break
        else:
            raise NoStacks(f"generation {generation} has no fork server any more")
    except OSError as error:
        raise NoStacks(f"the arbiter, pid {arbiter}: {error.strerror}") from None
    try:
        yield fd
    finally:
        os.close(fd)


def _check(pid: int) -> None:
    """Raises NoStacks if the signal would do anything else than write the stacks."""
    state = process_state(pid)
    if state != "running":
        wait = f", in the kernel at {_waits_in(pid)}" if state == "waiting" else ""
        raise NoStacks(f"pid {pid} is {state}{wait}: it can write nothing now")
    masks = _masks(pid)
    bit = 1 << (DUMP - 1)
    if not masks.get("SigCgt", 0) & bit:
        raise NoStacks(f"pid {pid} has no handler that writes stacks: it boots, or its job took it")
    if masks.get("SigBlk", 0) & bit:
        raise NoStacks(f"pid {pid} has blocked the signal that asks for stacks")


def _masks(pid: int) -> dict[str, int]:
    """The signals that a process handles and blocks. proc_pid_status(5)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError as error:
        raise NoStacks(f"pid {pid}: {error.strerror}") from None
    words = (line.partition(":") for line in lines if line.startswith("Sig"))
    return {name: int(value, 16) for name, _, value in words if name in ("SigCgt", "SigBlk")}


def _waits_in(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/wchan").read_text().strip() or "?"
    return "?"


def _written(dumps: int, begin: int, pid: int) -> str:
    """What has been written since `begin`, once it is whole."""
    deadline = time.monotonic() + _PATIENCE
    size, changed = begin, time.monotonic()
    while True:
        now, fresh = time.monotonic(), os.fstat(dumps).st_size
        if fresh != size:
            size, changed = fresh, now
        elif size > begin and now - changed > _SETTLED:
            break
        if now > deadline:
            if size > begin:
                break
            raise NoStacks(f"pid {pid} has written no stacks in {_PATIENCE:g} s")
        time.sleep(0.01)
    return os.pread(dumps, min(size - begin, _LONGEST), begin).decode(errors="replace").rstrip()
