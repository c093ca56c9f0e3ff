"""The processes that jobs start, as their worker deals with them when a job is over.

A job that was cut takes with it what it has started. What a job that returned or raised has left
is named once: it ends with the worker if it is in the worker's process group, else it runs on.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Final

from resqued import descendants, linux
from resqued.descendants import Span
from resqued.linux import Process
from resqued.logs import logger
from resqued.worker.job import pools

_REMEDY: Final = (
    "it ends when the worker leaves; wait for it in the job, or give it a session of its own"
    " (start_new_session=True) if it is to stay"
)


class Leftovers:
    """What the jobs of one worker have started and not waited for.

    pid, ticks: the worker's (`linux.lives`).
    """

    def __init__(self, pid: int, ticks: int) -> None:
        self._pid, self._ticks = pid, ticks
        self._named: set[Process] = set()
        self._strangers: set[int] = set()  # pids that were looked at and are none of ours
        self._children: frozenset[str] = frozenset()
        self._usage = _usage()
        self.childless = False
        """The last look at them has found no child at all."""

    def end(self, job_id: str, since: int) -> None:
        """End what the job has started, which was cut, in `descendants.LIMIT` seconds at most.

        What earlier jobs have left is spared. since: when the job began (`linux.boot_ticks`).
        """
        span = self._span(since)
        pools.let_go({process.pid for process in descendants.find(span)})
        tell(job_id, descendants.end(span, spare=self._named), self._pid)

    def tell(self, job_id: str, ended: descendants.Ended) -> None:
        """Log what was ended with a job that ran in a child, which is gone too."""
        tell(job_id, ended)

    def find(self, since: int) -> list[Process]:
        """What the job in hand has started and still lives. since: as for `end`."""
        return descendants.find(self._span(since))

    def _span(self, since: int) -> Span:
        return Span(self._pid, self._ticks, since)

    def name(self, job_id: str, since: int) -> None:
        """Say what the job has left, if it has started anything at all.

        Where there is no child, and none was waited for, this costs two system calls.
        """
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
            logger.warning(f"job={job_id} has left {descendants.name(staying)} running: {_REMEDY}")
        if new - staying:
            logger.info(
                f"job={job_id} has left {descendants.name(new - staying)} running, in a session or"
                " process group of its own: nobody ends it"
            )


def tell(job_id: str, ended: descendants.Ended, worker: int = 0) -> None:
    """Log what was ended with a job, and what was not.

    worker: the pid of its worker, if that has yet to leave; with it goes its process group.
    """
    if ended.gone:
        logger.info(f"ended with job={job_id}: {descendants.name(ended.gone)}")
    going = [process for process in ended.left if process.group == worker]
    staying = [process for process in ended.left if process.group != worker]
    if going:  # such as those of a pool that replaces each that is ended
        names = descendants.name(going)
        logger.warning(f"job={job_id} was cut, and {names} still runs: it ends with its worker")
    if staying:
        logger.error(
            f"job={job_id} was cut, and {descendants.name(staying)} still runs: it could not be"
            " ended; see that it is not in the way of the job's next run"
        )


def _usage() -> tuple[float, ...]:
    """Changes with each child that is waited for."""
    return resource.getrusage(resource.RUSAGE_CHILDREN)


def _children() -> frozenset[str]:
    """The pids of our children, zombies too, as text."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return frozenset()
    found: set[str] = set()
    try:
        for task in Path("/proc/self/task").iterdir():
            found.update((task / "children").read_text().split())
    except OSError:  # a thread has just ended, or the kernel does not have it: look
        found.add("?")
    return frozenset(found)
