"""Run in a template, a few times, what a child does for a job.

Python specializes bytecode and caches attributes when code first runs; if that is done before the
fork, a child writes to fewer of the shared memory pages. Only code of resqued, RQ and Python is
run: if other code replaces RQ's (tracers, subclasses, hooks), nothing is done.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from logging import DEBUG
from types import FunctionType
from typing import Final

from rq.executions import Execution
from rq.job import Job
from rq.timeouts import UnixSignalDeathPenalty
from rq.worker.base import BaseWorker

from resqued import linux, logs
from resqued.worker.boot import Forge
from resqued.worker.context import Context
from resqued.worker.isolation import parcel
from resqued.worker.isolation.child_main import ChildMain
from resqued.worker.isolation.entry import IsolatedRunner, who
from resqued.worker.isolation.frames import TOKEN, Pipe

_ROUNDS: Final = 10
"""Python begins to specialize bytecode after eight runs."""


def nothing() -> None:
    """The job."""


def warm_up(context: Context, runner: IsolatedRunner, forge: Forge) -> None:
    """Runs in a template, before its first child."""
    worker, slot = context.worker, context.slot
    if (
        type(worker).__module__.partition(".")[0] != "resqued"
        or not _is_plain(type(worker).perform_job, BaseWorker)
        or not _is_plain(Job.perform, Job)
        or worker.job_class is not Job
        or not issubclass(worker.death_penalty_class, UnixSignalDeathPenalty)
        or slot.hooks.has("perform_job")
        or slot.hooks.has("before_job")
        or worker.log.isEnabledFor(DEBUG)  # RQ would log the job
    ):
        return
    ends = os.pipe()
    os.set_blocking(ends[0], False)
    try:
        pipes = (
            Pipe(ends[1], ends[0], os.getpid(), os.O_WRONLY),
            Pipe(ends[0], ends[1], os.getpid(), os.O_RDONLY),
        )
        for _ in range(_ROUNDS):
            _run_once(
                context,
                runner,
                WarmUpChild(context, runner, forge, *pipes, os.urandom(TOKEN)),
                ends[1],
            )
            os.read(ends[0], 65536)
    except Exception as error:
        logs.debug(f"warm-up raised {type(error).__name__}: {error}")
    finally:
        runner.child_main = None
        for fd in ends:
            os.close(fd)


def _run_once(context: Context, runner: IsolatedRunner, child_main: ChildMain, fd: int) -> None:
    slot, worker = context.slot, context.worker
    logs.set_who(who(slot) + str(slot.pid))
    linux.set_parent_death_signal(signal.SIGKILL)  # again, with the same value
    job = Job.create(nothing, connection=worker.connection, serializer=worker.serializer)
    job.timeout = 180
    execution = Execution("-", job.id, worker.connection, worker.name)
    raw = parcel.pack(job, worker.queues[0], execution, {"at_limit": False})
    assert raw is not None
    os.write(fd, len(raw).to_bytes(8) + raw)
    runner.child_main = child_main
    child_main.run_next()
    worker.executions.clear()


class WarmUpChild(ChildMain):
    """A ChildMain that does not exit."""

    def _end(self, job: Job) -> None:  # type: ignore[override]
        self._forge.may_leave()


def _is_plain(method: Callable[..., object], owner: type) -> bool:
    """Whether a method is still RQ's own."""
    own = vars(owner).get(method.__name__)
    return (
        isinstance(method, FunctionType)
        and not hasattr(method, "__wrapped__")
        and method is own
        and method.__module__ == owner.__module__
    )
