"""The first moments of a child for a job: it becomes a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import replace
from typing import Any, Final

from resqued import descendants, linux, logs, titles
from resqued.scoreboard import RecordWriter
from resqued.worker.boot import reseed
from resqued.worker.context import Context
from resqued.worker.isolation.runner import IsolatedRunner
from resqued.worker.job.leftovers import Leftovers
from resqued.worker.job.signals import ignore_in_child
from resqued.worker.slot import Slot

_OOM_POINTS: Final = 100
"""How much sooner than its worker a child is killed when memory is out."""


class Muted(RecordWriter):
    """The worker's record, as a child sees it: what it writes is seen by nobody."""

    def __init__(self, writer: RecordWriter) -> None:
        vars(self).update(vars(writer))
        self.record = replace(writer.record)

    def update(self, **changes: Any) -> None:
        self.record = replace(self.record, **changes)


def enter(context: Context, runner: IsolatedRunner, not_before: int, *, ahead: bool) -> None:
    """Nothing of the worker's is used, or written, from here.

    context, runner: the worker's, as they were in the parent, and now copies. not_before:
    `linux.boot_ticks` before the fork. ahead: the job is not known yet.
    """
    slot, worker, pid = context.slot, context.worker, os.getpid()
    if ahead:
        titles.child(slot.writer.slot, "next")
    ticks = linux.own_birth_ticks(not_before)
    descendants.bear_mark(pid, ticks)
    linux.raise_oom_score(_OOM_POINTS)
    ignore_in_child(logs.reopen)
    slot.signals.register_dump()
    _let_go(slot, worker.connection)
    slot.boundary.let_go()
    slot.become(pid, Muted(slot.writer))
    slot.leftovers = Leftovers(pid, ticks)
    record = slot.writer.record
    logs.set_who(f"worker={slot.writer.slot} gen={record.generation} pid={pid}")
    reseed()
    worker.connection = runner.connection.unused()  # from before the fork
    worker._is_horse = True
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _let_go(slot: Slot, connection: Any) -> None:
    """Close what is the worker's, so that no job can write into it, or keep it open."""
    pool: Any = connection.connection_pool
    for name in ("_available_connections", "_in_use_connections"):
        for link in getattr(pool, name, ()):
            with contextlib.suppress(Exception):
                link._sock.close()
    slot.signals.abandon_pipe()
    with contextlib.suppress(OSError):
        os.close(slot.writer.board.fd)
