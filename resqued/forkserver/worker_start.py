"""The start of a worker, from its fork to `resqued.worker`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NoReturn

from resqued import linux, logs, titles
from resqued.config import Config
from resqued.forkserver.job_children import Offspring
from resqued.forkserver.notes import Notes
from resqued.forkserver.process_exit import ProcessExit
from resqued.messages import ForkWorker, Inherited
from resqued.scoreboard import Phase, Record, RecordWriter, Scoreboard, Stop
from resqued.snapshots import Worker, WorkerState
from resqued.worker_snapshot import snapshot_of

if TYPE_CHECKING:
    from resqued.plugins.hooks import Hooks
    from resqued.worker.boot import Boot

Run = Callable[["Boot"], int]

HURRY: Final = 2.0
"""Seconds for the exit of a worker that was told to stop now; it is killed after three."""

OOM_POINTS: Final = 300
"""How much sooner than the arbiter or the fork server a worker is killed when memory is out."""


def snapshot(task: ForkWorker, generation: int, config: Config) -> Worker:
    """The snapshot of the next worker for `before_fork`. Runs in the fork server."""
    return snapshot_of(
        Record(),
        slot=task.slot,
        name=task.name,
        pid=None,
        generation=generation,
        queues=tuple(task.queues),
        state=WorkerState.FORKING,
        config=config,
        holds_job=False,
    )


def live(
    task: ForkWorker,
    *,
    given: Inherited,
    board: Scoreboard,
    config: Config,
    hooks: Hooks,
    identity: str,
    run: Run,
    notes: Notes,
) -> NoReturn:
    """Runs in the worker: write its record, run it, end the process.

    Signals are blocked until the worker has installed its handlers, so that none has its default
    action before. identity: the arbiter's.
    """
    from resqued.worker.boot import EXIT_SLACK, Boot

    pid, now = os.getpid(), time.monotonic()
    record = Record(
        phase=Phase.BOOTING,
        pid=pid,
        generation=given.generation,
        serial=task.serial,
        started=now,
        heartbeat=now,
        deadline=now + config.boot_timeout,
        name=task.name,
        ticks=linux.birth_ticks(pid),
    )
    writer = RecordWriter(board, task.slot, record)
    logs.set_who(f"worker={task.slot} gen={given.generation} pid={pid}")
    titles.worker(task.slot, task.queues, "booting")
    linux.raise_oom_score(OOM_POINTS)
    boot = Boot(
        config=config,
        hooks=hooks,
        writer=writer,
        queues=tuple(task.queues),
        trial=task.trial,
        doorbell=given.doorbell,
        dumps=given.dumps,
        arbiter=identity,
        forge=Offspring(notes, given.dumps, lambda: writer.stop is Stop.NOW),
        first=notes.first,
    )
    code = run(boot)
    seconds = config.exit_timeout
    if seconds and writer.record.deadline:  # less, if it was told to stop now
        left = writer.record.deadline - EXIT_SLACK - time.monotonic()
        seconds = max(0.1, min(seconds, left))
    ProcessExit(
        seconds,
        hurried=lambda: HURRY if writer.stop is Stop.NOW else None,
        notes=notes,
        stacks=given.dumps,
    ).leave(code)
