"""What a worker's job has started: found and ended, wherever it has gone.

A worker bears a mark (`linux.bear`) that all its descendants inherit, also those that have left
its process group and session and whose parents have died, and that nobody who only sees parents
could still tell from others' children. For what has lost the mark (a login through PAM resets
limits) there are still the parents and the process group, so a worker's descendants are listed
before the worker is killed.

Guaranteed: what bears the mark, or is in the worker's group, or has an unbroken line of parents to
the worker, is found, if /proc shows it: processes of other users are hidden under hidepid, and
cannot be ended without privilege anyway. What forks while it is looked for is found in the next
round; rounds go on until one finds nobody, or time is over. Nothing that is older than the job is
touched, to a hundredth of a second.

Making a worker a subreaper instead would find the same, but hand it the zombies of all orphans,
which a `wait` of job code for any child would take for its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection, Container, Iterable
from dataclasses import dataclass
from typing import Final

from resqued import linux
from resqued.linux import Process
from resqued.scoreboard import Phase, Record

LIMIT: Final = 2.0
"""Seconds that ending the descendants of a job may take at most."""

GENTLE: Final = 0.7
"""Seconds between SIGTERM and SIGKILL."""

_PID_BITS: Final = 22  # of PID_MAX_LIMIT, proc(5)
_LONGEST_PAUSE: Final = 0.05
_CLEANER: Final = b"multiprocessing.resource_tracker"
"""In the command line of Python's helper that removes semaphores and shared memory which others
leave. It ends by itself after them, and is left to it."""


@dataclass(frozen=True)
class Span:
    """What one worker process has started since a moment. pid, ticks: which one (`linux.lives`).
    since: as `linux.boot_ticks` counts; its job's beginning."""

    pid: int
    ticks: int
    since: int


@dataclass(frozen=True)
class Ended:
    """What came of it."""

    gone: list[Process]
    left: list[Process]

    def __str__(self) -> str:
        """`pid=12 sleep, pid=13 sh`: those that are gone."""
        return name(self.gone)


def name(processes: Collection[Process]) -> str:
    """At most ten of them."""
    shown = ", ".join(map(str, sorted(processes, key=lambda process: process.pid)[:10]))
    more = len(processes) - 10
    return f"{shown} and {more} more" if more > 0 else shown


def bear_mark(pid: int, ticks: int, *, of: int = 0) -> None:
    """Make all that a process will start recognizable. Runs in a worker, once.

    of: the pid of the one that is to bear it, a child that has started nothing yet; 0: the caller.
    """
    linux.bear(_mark(pid, ticks), of)


def _mark(pid: int, ticks: int) -> int:
    return ticks << _PID_BITS | pid


def find(span: Span, *, skip: Container[int] = ()) -> list[Process]:
    """Those that live now, the worker itself and whoever asks not among them.

    skip: pids that are known to have nothing to do with it. Runs anywhere; reads /proc.
    """
    table = linux.processes(skip)
    root = table.get(span.pid)
    there = root is not None and root.ticks == span.ticks
    family = {span.pid} if there else set()
    spared = (span.pid, os.getpid())
    young = [
        process
        for process in table.values()
        if process.ticks >= span.since and process.lives and process.pid not in spared
    ]
    if root is None or there:  # else its pid, and so its group's, are somebody else's by now
        family |= {process.pid for process in table.values() if process.group == span.pid}
    mark = _mark(span.pid, span.ticks)
    family |= {p.pid for p in young if p.pid not in family and linux.mark_of(p.pid) == mark}
    children: dict[int, list[int]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process.pid)
    look = list(family)
    while look:
        new = [pid for pid in children.get(look.pop(), ()) if pid not in family]
        family.update(new)
        look += new
    found = [process for process in young if process.pid in family]
    return [process for process in found if _CLEANER not in linux.command_line(process.pid)]


def end(
    span: Span,
    *,
    spare: Container[Process] = (),
    gentle: float = GENTLE,
    limit: float = LIMIT,
) -> Ended:
    """End them and wait until they are gone: SIGTERM, SIGKILL `gentle` seconds later.

    spare: those that stay. limit: seconds after which it returns in any case; those that we may
    not signal are not waited for. Runs in a worker that has left its job, or in a recovery.
    """
    began = time.monotonic()
    told: dict[Process, int] = {}
    pause = 0.002
    while True:
        found = [process for process in find(span) if process not in spare]
        passed = time.monotonic() - began
        signum = signal.SIGTERM if passed < gentle else signal.SIGKILL
        for process in found:
            if told.get(process) != signum and _signal(process, signum):
                told[process] = signum
        if passed >= limit or not any(process in told for process in found):
            return Ended([process for process in told if process not in found], found)
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def end_child(span: Span, *, limit: float = LIMIT) -> Ended:
    """End a child for a job, and then what that has started: SIGKILL, and wait until all are gone.

    For who comes after its worker: that ends its children with it, but for one that has changed
    its user. Runs in a recovery.
    """
    root = linux.processes().get(span.pid)
    if root is not None and root.ticks == span.ticks:
        kill([root])
    return end(span, gentle=0, limit=limit)


def kill_worker(pid: int, record: Record) -> None:
    """SIGKILL a worker, its process group, and what its job has started, listed before.

    Who waits until they are gone is the recovery of the job. record: as the worker left it last.
    Runs in whoever may kill the worker and has not waited for it, so that the pid is surely its.
    """
    # Once its outcome is written a job is over, and what has a session of its own runs on.
    busy = record.pid == pid and Phase.RUNNING <= record.phase <= Phase.RETURNED
    listed = find(Span(pid, record.ticks, record.job_ticks)) if busy else []
    with contextlib.suppress(ProcessLookupError, PermissionError):  # a job may change its user
        os.killpg(pid, signal.SIGKILL)
    kill(listed)


def kill(listed: Iterable[Process]) -> None:
    """SIGKILL those of them that still live."""
    for process in listed:
        _signal(process, signal.SIGKILL)


def _signal(process: Process, signum: int) -> bool:
    """Whether it could be signalled. Not who has its pid by now."""
    if not linux.lives(process.pid, process.ticks):
        return True
    try:
        os.kill(process.pid, signum)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True
