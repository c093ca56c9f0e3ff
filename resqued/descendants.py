"""Find and end the processes that a worker's job has started, also if they have left its group.

A worker has a mark (`linux.set_mark`) that all its descendants inherit, also those that have left
its process group and session, and whose parents have died. A process that has lost the mark (a
login through PAM resets limits) is found by its parents or its process group; so a worker's
descendants are listed before the worker is killed.

A process is found if it has the mark, or is in the worker's group, or has an unbroken line of
parents to the worker, and /proc shows it: under hidepid, processes of other users are hidden. A
process that forks during the search is found in the next round; rounds go on until one finds none,
or time is over. Processes older than the job, to a hundredth of a second, are not touched.

Making the worker a subreaper would find the same processes, but would also give it the zombies of
all orphans, and job code that waits for any child would take them for its own.
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

TERM_SECONDS: Final = 0.7
"""Seconds between SIGTERM and SIGKILL."""

_PID_BITS: Final = 22  # of PID_MAX_LIMIT, proc(5)
_LONGEST_PAUSE: Final = 0.05
_RESOURCE_TRACKER: Final = b"multiprocessing.resource_tracker"
"""In the command line of Python's helper that removes semaphores and shared memory which other
processes leave. It ends by itself after them, and is not ended here."""


@dataclass(frozen=True)
class Span:
    """What one worker process has started since a moment. pid, ticks: the worker (`linux.lives`).
    since: when its job began, as `linux.boot_ticks` counts."""

    pid: int
    ticks: int
    since: int


@dataclass(frozen=True)
class EndedProcesses:
    """The processes that were ended, and those that could not be."""

    gone: list[Process]
    left: list[Process]

    def __str__(self) -> str:
        """The ended processes: `pid=12 sleep, pid=13 sh`."""
        return list_names(self.gone)


def list_names(processes: Collection[Process]) -> str:
    """At most ten processes as text, and how many more."""
    shown = ", ".join(map(str, sorted(processes, key=lambda process: process.pid)[:10]))
    more = len(processes) - 10
    return f"{shown} and {more} more" if more > 0 else shown


def mark_descendants(pid: int, ticks: int, *, of: int = 0) -> None:
    """Mark a process, and so all that it will start. Runs in a worker, once. of: the pid of the
    process to mark, a child that has started nothing yet; 0: the caller."""
    linux.set_mark(_mark(pid, ticks), of)


def _mark(pid: int, ticks: int) -> int:
    return ticks << _PID_BITS | pid


def find(span: Span, *, skip: Container[int] = ()) -> list[Process]:
    """The living descendants, without the worker and the caller. skip: pids that are known to be
    unrelated. Runs in any process; reads /proc."""
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
    if root is None or there:  # else pid and group number belong to other processes by now
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
    return [
        process for process in found if _RESOURCE_TRACKER not in linux.command_line(process.pid)
    ]


def end(
    span: Span,
    *,
    spare: Container[Process] = (),
    gentle: float = TERM_SECONDS,
    limit: float = LIMIT,
) -> EndedProcesses:
    """End the descendants and wait until they are gone: SIGTERM, then SIGKILL after `gentle`
    seconds.

    spare: processes that stay. limit: seconds after which it returns in any case; processes that
    may not be signalled are not waited for. Runs in a worker after its job, or in a recovery.
    """
    began = time.monotonic()
    signalled: dict[Process, int] = {}
    pause = 0.002
    while True:
        found = [process for process in find(span) if process not in spare]
        passed = time.monotonic() - began
        signum = signal.SIGTERM if passed < gentle else signal.SIGKILL
        for process in found:
            if signalled.get(process) != signum and _signal(process, signum):
                signalled[process] = signum
        if passed >= limit or not any(process in signalled for process in found):
            return EndedProcesses([process for process in signalled if process not in found], found)
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def end_child(span: Span, *, limit: float = LIMIT) -> EndedProcesses:
    """Kill a job's child, then what it has started, and wait until all are gone. A child dies with
    its worker, unless it has changed its user. Runs in a recovery."""
    root = linux.processes().get(span.pid)
    if root is not None and root.ticks == span.ticks:
        kill([root])
    return end(span, gentle=0, limit=limit)


def kill_worker(pid: int, record: Record) -> None:
    """Kill a worker, its process group, and what its job has started. The recovery of the job waits
    until they are gone. record: as the worker left it last. Runs in the process that may kill the
    worker and has not yet waited for it, so that the pid is the worker's."""
    # Once its outcome is written the job is over; processes in other sessions then run on.
    busy = record.pid == pid and Phase.RUNNING <= record.phase <= Phase.RETURNED
    listed = find(Span(pid, record.ticks, record.job_ticks)) if busy else []
    with contextlib.suppress(ProcessLookupError, PermissionError):  # a job may change its user
        os.killpg(pid, signal.SIGKILL)
    kill(listed)


def kill(listed: Iterable[Process]) -> None:
    """SIGKILL those that still live."""
    for process in listed:
        _signal(process, signal.SIGKILL)


def _signal(process: Process, signum: int) -> bool:
    """Send a signal, but not to a new process with the same pid; whether it was permitted."""
    if not linux.lives(process.pid, process.ticks):
        return True
    try:
        os.kill(process.pid, signum)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True
