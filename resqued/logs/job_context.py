"""The job that a process runs, for the lines that the application logs meanwhile.

A process runs one job at a time, so this is one variable of the process and no context variable: a
thread that the job has started has no copy of its context.
"""

from __future__ import annotations

import os
from _thread import get_native_id  # the real one, also under gevent
from collections.abc import Mapping
from typing import Any, Final

from resqued import linux

_NOTHING: Final[Mapping[str, Any]] = {}


class JobContext:
    """The job of this process. A forked child has a copy."""

    def __init__(self) -> None:
        self._job: tuple[str, str, str] | None = None
        self._since = 0  # boot ticks
        self._births: dict[int, int] = {}  # native id of a thread: boot ticks
        self.failure_follows = False
        """Whether resqued logs a failure of this job, so that RQ's line about it is not needed."""

    def bind(self, job_id: str, queue: str, function: str, *, failure_follows: bool) -> None:
        """From here on, lines are about this job."""
        self._job = job_id, queue, function
        self._since = linux.boot_ticks()
        self.failure_follows = failure_follows

    def unbind(self) -> None:
        """The job is over."""
        self._job = None
        self.failure_follows = False
        if self._births:
            self._births = {}

    def fields(self) -> Mapping[str, Any]:
        """`job`, `queue` and `function` for a line of the calling thread; empty without a job, and
        in a thread that is older than the job."""
        job = self._job
        if job is None or not self._is_of_job(get_native_id()):
            return _NOTHING
        return {"job": job[0], "queue": job[1], "function": job[2]}

    def _is_of_job(self, thread: int) -> bool:
        if thread == os.getpid():
            return True
        born = self._births.get(thread)
        if born is None:
            try:
                born = linux.birth_ticks(thread)
            except OSError:
                born = 0
            self._births[thread] = born
        return born >= self._since
