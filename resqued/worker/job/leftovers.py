"""The processes that jobs start, and what the worker does with them when a job has ended.

The processes of a job that was cut are ended with it. Those that a job has left when it returned or
raised are logged once: they end with the worker if they are in its process group, else they run on.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import threading
from collections.abc import Container
from pathlib import Path
from typing import Any, Final

from resqued import descendants, linux, logs
from resqued.descendants import Span, list_names
from resqued.linux import Process
from resqued.logs import LogEvent
from resqued.signals import handler_of

_REMEDY: Final = (
    "it ends when the worker leaves; wait for it in the job, or give it a session of its own"
    " (start_new_session=True) if it is to stay"
)

_FINALIZER: Final = "_terminate_pool"
_IGNORED: Final = signal.SIG_IGN


class Leftovers:
    """Processes that the jobs of one worker have started and not waited for. pid, ticks: the
    worker's (`linux.lives`)."""

    def __init__(self, pid: int, ticks: int) -> None:
        self._pid, self._ticks = pid, ticks
        self._named: set[Process] = set()
        self._strangers: set[int] = set()  # pids that are known to be unrelated
        self._children: frozenset[str] = frozenset()
        self._usage = _usage()
        self.childless = False
        """Whether the last look has found no child process at all."""

    def end(self, job_id: str, since: int) -> None:
        """End what a job that was cut has started, within `descendants.LIMIT` seconds. What earlier
        jobs have left is spared. since: when the job began (`linux.boot_ticks`)."""
        span = self._span(since)
        _let_go_pools({process.pid for process in descendants.find(span)})
        log_ended(job_id, descendants.end(span, spare=self._named), self._pid)

    def find(self, since: int) -> list[Process]:
        """Living processes that the job in hand has started. since: as for `end`."""
        return descendants.find(self._span(since))

    def _span(self, since: int) -> Span:
        return Span(self._pid, self._ticks, since)

    def log_left(self, job_id: str, since: int) -> None:
        """Log what the job has left, if it has started anything at all. Where there is no child,
        and none was waited for, this takes two system calls."""
        children, usage = _children(), _usage()
        self.childless = not children
        if (children, usage) == (self._children, self._usage):
            return
        self._children, self._usage = children, usage
        found = set(descendants.find(self._span(since), skip=self._strangers))
        new = found - self._named
        self._named = {p for p in self._named | found if linux.lives(p.pid, p.ticks)}
        self._strangers = linux.pids() - {self._pid, *(process.pid for process in self._named)}
        staying = {process for process in new if process.group == self._pid}
        if staying:
            logs.warning(
                f"job={job_id} has left {list_names(staying)} running: {_REMEDY}",
                LogEvent.JOB_NOTICE,
                job=job_id,
            )
        if new - staying:
            logs.info(
                f"job={job_id} has left {list_names(new - staying)} running, in a session or"
                " process group of its own: nobody ends it",
                LogEvent.JOB_NOTICE,
                job=job_id,
            )


def log_ended(job_id: str, ended: descendants.EndedProcesses, worker: int = 0) -> None:
    """Log what was ended with a job, and what could not be. worker: the pid of its worker, if that
    has yet to exit; its process group ends with it."""
    if ended.gone:
        logs.info(
            f"ended with job={job_id}: {list_names(ended.gone)}", LogEvent.JOB_NOTICE, job=job_id
        )
    going = [process for process in ended.left if process.group == worker]
    staying = [process for process in ended.left if process.group != worker]
    if going:  # such as those of a pool that replaces each ended one
        names = list_names(going)
        logs.warning(
            f"job={job_id} was cut, and {names} still runs: it ends with its worker",
            LogEvent.JOB_NOTICE,
            job=job_id,
        )
    if staying:
        logs.error(
            f"job={job_id} was cut, and {list_names(staying)} still runs: it could not be"
            " ended; see that it is not in the way of the job's next run",
            LogEvent.JOB_NOTICE,
            job=job_id,
        )


def _usage() -> tuple[float, ...]:
    """Changes with each child that is waited for."""
    return resource.getrusage(resource.RUSAGE_CHILDREN)


def _children() -> frozenset[str]:
    """The pids of this process's children, zombies too, as text."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return frozenset()
    found: set[str] = set()
    try:
        for task in Path("/proc/self/task").iterdir():
            found.update((task / "children").read_text().split())
    except OSError:  # a thread has just ended, or the kernel lacks the file
        found.add("?")
    return frozenset(found)


def _let_go_pools(pids: Container[int]) -> None:
    """Disable the process pools of this process to which one of these processes belongs.

    A `multiprocessing.Pool` replaces each of its processes that ends, and its finalizer, at the
    collection of the pool or at the exit, waits for a lock that a killed process may hold, for
    ever. So, before a cut job's processes are ended, the threads of such pools are told to stop,
    and their finalizers are cancelled. Runs in a worker after its job. What it uses is private to
    the library (CPython 3.11 to 3.14, billiard, multiprocess), and may be missing.
    """
    for name, module in list(sys.modules.items()):
        if name.endswith(".util"):
            registry = getattr(module, "_finalizer_registry", None)
            for finalizer in list(registry.values()) if isinstance(registry, dict) else ():
                with contextlib.suppress(Exception):
                    _let_go_pool(finalizer, pids)


def _let_go_pool(finalizer: Any, pids: Container[int]) -> None:
    callback = finalizer._callback
    if getattr(callback, "__name__", "") != _FINALIZER:
        return
    lists = [argument for argument in finalizer._args if isinstance(argument, list)]
    if not any(process.pid in pids for processes in lists for process in processes):
        return
    word = vars(sys.modules[callback.__self__.__module__])["TERMINATE"]
    threads = [argument for argument in finalizer._args if isinstance(argument, threading.Thread)]
    finalizer.cancel()
    for thread in threads:
        thread._state = word  # type: ignore[attr-defined]


def has_started() -> bool:
    """Whether the job has started any process: one lives, or was waited for, or may have been
    reaped by the kernel. Runs in the child."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    if used.ru_maxrss or used.ru_minflt or handler_of(signal.SIGCHLD) == _IGNORED:
        return True
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


class ChildLeftovers(Leftovers):
    """The processes that one child for a job has started: all that there are."""

    def __init__(self) -> None:
        pid = os.getpid()
        super().__init__(pid, linux.birth_ticks(pid))
        self._usage = ()
