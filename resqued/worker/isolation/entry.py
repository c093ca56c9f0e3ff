"""What a child for a job does first: it separates itself from its worker."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from rq.job import Job

from resqued import descendants, linux, logs, titles
from resqued.scoreboard import RecordWriter
from resqued.signals import HANDLED, SIG_SETMASK, set_mask
from resqued.worker.boot import reseed
from resqued.worker.context import Context
from resqued.worker.job.signals import ignore_in_child
from resqued.worker.slot import WorkerSlot

if TYPE_CHECKING:
    from resqued.broker.outcome_writer import OutcomeWriter
    from resqued.worker.job.callbacks import Callbacks
    from resqued.worker.job.user_code import JobConnection
    from resqued.worker.outcomes import Outcomes

_OOM_POINTS: Final = 100
"""By how much the OOM killer prefers a child to its worker."""


class UnpublishedRecord(RecordWriter):
    """The worker's record as a child uses it: what it writes is not published."""

    def __init__(self, writer: RecordWriter) -> None:
        vars(self).update(vars(writer))
        self.record = replace(writer.record)

    def update(self, **changes: Any) -> None:
        vars(self.record).update(changes)

    prepare = update


def enter(context: Context, runner: IsolatedRunner, not_before: int, *, ahead: bool) -> None:
    """In a child of the worker's: from here on nothing of the worker's is used or written. context,
    runner: copies of the worker's. not_before: `linux.boot_ticks` before the fork. ahead: the job
    is not known yet."""
    if ahead:
        titles.child(context.slot.writer.slot, "next")
    _leave_worker(context, runner)
    _begin(context, not_before)


def be_template(context: Context, runner: IsolatedRunner, not_before: int) -> None:
    """In a template, which forks children that then call `enter_again`. It ignores signals."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {*HANDLED, signal.SIGIO})
    pid, ticks = os.getpid(), linux.own_birth_ticks(not_before)
    descendants.mark_descendants(pid, ticks)
    _leave_worker(context, runner)
    os.environ["RQ_WORKER_ID"] = context.worker.name
    context.slot.signals.installed = False  # its forks need no masking of the worker's signals
    gc.disable()


def enter_again(context: Context, who: str) -> None:
    """In a child of a template, which has separated itself from the worker, and marks the child.
    who: prefix of its log lines, before its pid."""
    slot = context.slot
    slot.signals.installed = True  # the job's own children get default signal handlers
    slot.pid = pid = os.getpid()
    logs.set_who(who + str(pid))
    reseed()
    set_mask(SIG_SETMASK, ())


def _leave_worker(context: Context, runner: IsolatedRunner) -> None:
    slot, worker = context.slot, context.worker
    linux.raise_oom_score(_OOM_POINTS)
    ignore_in_child(logs.reopen)
    slot.signals.register_dump(in_child=True)
    _let_go(slot, worker.connection)
    slot.boundary.let_go()
    slot.become(os.getpid(), UnpublishedRecord(slot.writer))
    worker.connection = runner.connection.unused()  # made before the fork
    worker._is_horse = True


def _begin(context: Context, not_before: int) -> None:
    slot, pid = context.slot, os.getpid()
    os.environ["RQ_WORKER_ID"] = context.worker.name
    ticks = linux.own_birth_ticks(not_before)
    descendants.mark_descendants(pid, ticks)
    logs.set_who(who(slot) + str(pid))
    reseed()
    set_mask(SIG_SETMASK, ())


def who(slot: WorkerSlot) -> str:
    """Prefix of a child's log lines, before its pid."""
    return f"worker={slot.writer.slot} gen={slot.writer.record.generation} pid="


def _let_go(slot: WorkerSlot, connection: Any) -> None:
    """Close what is the worker's, so that no job can write to it, or keep it open."""
    pool: Any = connection.connection_pool
    for name in ("_available_connections", "_in_use_connections"):
        for link in getattr(pool, name, ()):
            with contextlib.suppress(Exception):
                link._sock.close()
    slot.signals.let_go()
    with contextlib.suppress(OSError):
        os.close(slot.writer.board.fd)


class IsolatedRunner(Protocol):
    """`JobRunner`, as far as this package uses it."""

    writer: OutcomeWriter
    outcomes: Outcomes
    callbacks: Callbacks
    connection: JobConnection
    child_main: Any
    """In the child: its `ChildMain`."""

    def wrap(self, job: Job) -> None:
        """Replace the job's `perform` and `_execute`."""
