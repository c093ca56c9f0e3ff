"""A worker's slot: what surrounds it, whatever its class: settings, hooks, record, signals."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pluggy

from resqued import descendants, hookspecs, linux, logs, titles
from resqued.broker.owner import owner_of
from resqued.broker.prerequisites import MissingRights
from resqued.config import Config
from resqued.logs import logger
from resqued.plugins.hooks import Hooks
from resqued.scoreboard import (
    LONGEST_ID,
    Order,
    Phase,
    Reason,
    Record,
    RecordWriter,
    Scoreboard,
    Stop,
)
from resqued.shares import QueueShare
from resqued.snapshots import Worker
from resqued.worker.boot import Boot
from resqued.worker.boundary import Boundary
from resqued.worker.job.interruptions import Interrupted, Stopped
from resqued.worker.job.leftovers import Leftovers
from resqued.worker.job.signals import HARD, kill_if_not_left
from resqued.worker.signals import Signals

FRESH: Final = 30.0
"""Seconds after a round of the steward's heartbeats in which a worker needs none of its own."""

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class WorkerSlot:
    """One worker's place in the machinery. Made after the fork, in the worker.

    alone: no arbiter above (`rq worker -w ...`); the record is then seen by nobody.
    """

    def __init__(self, boot: Boot, signals: Signals, *, alone: bool = False) -> None:
        self.config: Config = boot.config
        self.hooks = boot.hooks
        self.writer = boot.writer
        self.queues = boot.queues
        self.signals = signals
        self.boundary = Boundary(signals)
        self.alone = alone
        self.reason = Reason.NONE
        """Why the worker leaves; NONE while it does not, or when its loop ends unasked."""
        self.registered = False
        """RQ may know of it, so somebody has to deregister it."""
        self.on_ready: Callable[[], None] = lambda: None
        """Called when it has come up: Redis has taken what it wrote."""
        self.damaged = False
        """A job has closed descriptors that were not its own."""
        self.forge = boot.forge
        """How to fork a child for a job; None: there is no arbiter above."""
        self.first = boot.first
        self.missing_rights = MissingRights()
        """What the user of Redis may not do."""
        self._gone = False
        self._boot = boot
        self._parent = os.getppid()
        self.pid = os.getpid()
        self.patience = boot.config.loop_timeout
        """Seconds that a turn of the loop, or a step between two phases, may take before the worker
        counts as stuck. Turns are much shorter (`waiting.TURN`)."""
        descendants.mark_descendants(self.pid, boot.writer.record.ticks)
        self._memory = Memory()
        self.leftovers = Leftovers(self.pid, boot.writer.record.ticks)
        self.owner = owner_of(boot.writer.record, boot.arbiter)
        signals.on_cut = self._note_cut

    # What it is told.

    @property
    def stopping(self) -> Reason:
        """Whether it has to leave, and why; NONE: it has not."""
        if os.getppid() != self._parent and not self.alone:
            return Reason.ORPHANED
        if self.signals.draining or self.writer.stop is not Stop.NONE:
            return Reason.ASKED
        return Reason.NONE

    @property
    def now(self) -> bool:
        """Whether a job in hand has to go back instead of being run."""
        return self.signals.now or self.writer.stop is Stop.NOW

    @property
    def attended(self) -> bool:
        """Whether a steward sees to heartbeats, commands and suspension."""
        steward_status = self.writer.board.steward_status()
        return not self.alone and steward_status.is_fresh(time.monotonic(), FRESH)

    def become(self, pid: int, writer: RecordWriter) -> None:
        """Be the slot of a child for a job, which writes no record of its own."""
        self.pid, self.writer = pid, writer
        self._boot = replace(self._boot, writer=writer)

    # What it tells.

    def snapshot(self, *, after: int = 0) -> Worker:
        """What hooks are shown of the worker. after: jobs more than it has done by now."""
        return self._boot.worker(self.boundary.threads, after)

    def tell(self, hook: str, **arguments: Any) -> None:
        if self.hooks.has(hook):
            self.hooks.tell(hook, worker=self.snapshot(), **arguments)

    def show(self, activity: str) -> None:
        """Say in the process title what the worker does."""
        titles.worker(self.writer.slot, self.queues, activity)

    def log(self, fact: str, *, more: bool = False) -> None:
        """One of the two lines of a job; alone RQ's own are logged instead. more: the next job has
        been started, so its line follows at once."""
        if self.alone:
            logger.debug(fact)
        else:
            logs.fact(fact, more=more)

    def ring(self) -> None:
        """Wake the arbiter: there is something new on the record."""
        if not self.alone and not self.damaged:
            os.eventfd_write(self._boot.doorbell, 1)

    def step(self, phase: Phase, patience: float | None = None, **changes: Any) -> None:
        """Reach a phase, and put down what it is about; a record changes as a whole.

        patience: seconds until the next step or turn is due; 0: no limit; None: the loop's.
        """
        now = time.monotonic()
        patience = self.patience if patience is None else patience
        deadline = now + patience if patience else 0.0
        self.writer.update(phase=phase, heartbeat=now, deadline=deadline, **changes)

    def turn(self, patience: float | None = None) -> None:
        """One turn of whatever loop it is in: alive, and not stuck. patience: as for `step`."""
        now, record = time.monotonic(), self.writer.record
        told = record.heartbeat + self.patience == record.deadline and now < record.heartbeat + 0.1
        if patience is not None or not told:  # else it has just been
            patience = self.patience if patience is None else patience
            self.writer.update(heartbeat=now, deadline=now + patience)
        if self.signals.reopened:
            self.signals.reopened = False
            self.hooks.tell("reopen_logs", role="worker")

    def take(self, job_id: str, queue: str, execution_id: str = "") -> None:
        """A job left its queue for this worker. execution_id: with which a step has started it."""
        self.step(
            Phase.TAKEN,
            job_id=job_id,
            overflow=int(len(job_id.encode()) > LONGEST_ID),
            queue=queue,
            execution_id=execution_id,
            token="",
            stopped=0,
            function="",
            job_ticks=0,
            horse=0,
            horse_ticks=0,
        )

    def rest(self, *, failed: bool | None = None, briefly: bool = False) -> None:
        """No job in hand. failed: how the last one ended, if it was run; for the counters.

        briefly: the next job is started already, so that nobody needs to see this; it is published
        with the next step.
        """
        record = self.writer.record
        counters: dict[str, Any] = {}
        if failed is not None:
            counters = {
                "done": record.done + 1,
                "failed": record.failed + failed,
                "memory": self._memory.read(),
            }
        changes = {
            "phase": Phase.IDLE,
            "job_id": "",
            "overflow": 0,
            "queue": "",
            "execution_id": "",
            "stopped": 0,
            "function": "",
            "job_started": 0.0,
            "job_timeout": 0.0,
            **counters,
        }
        if briefly:
            self.writer.prepare(**changes)
            return
        logs.let_out()
        self.step(**changes)

    def ready(self) -> None:
        """It has come up and waits for jobs."""
        self.writer.update(ready=self.writer.record.ready or time.monotonic())
        self.rest()
        self.show("idle")
        self.ring()
        self.on_ready()

    def leave(self, reason: Reason) -> None:
        """Remember why; the first reason counts."""
        if self.reason is Reason.NONE:
            self.reason = reason
            logger.debug(f"leaving reason={reason.name.lower()}")

    def say_goodbye(self) -> None:
        """On the way out, once: plugins are told why."""
        if self._gone:
            return
        self._gone = True
        logs.let_out()
        self.leave(Reason.ASKED if self.alone else Reason.LOOP)
        self.step(Phase.LEAVING, reason=self.reason)
        self.tell("worker_exiting", reason=self.reason.name.lower())

    def close(self) -> None:
        """Give all back that a worker without an arbiter has taken from its process."""
        self.signals.close()
        self.boundary.close()
        self.writer.board.close()

    def _note_cut(self, kind: type[Interrupted]) -> None:
        """In the handler, right before a cut is raised in the job.

        Who stops a job wants it to end. Alone there would be nobody to write its outcome.
        """
        if kind is not Interrupted:
            self.writer.update(stopped=Order.STOP if kind is Stopped else Order.KILL)
            if not self.alone:
                kill_if_not_left(HARD)


class Memory:
    """How much memory this process has resident; asked of the kernel ten times a second at most."""

    def __init__(self) -> None:
        self._bytes = 0
        self._due = 0.0

    def read(self) -> int:
        """Bytes (proc_pid_statm(5)); 0 if it cannot be told, as when a job has left no descriptor
        for it."""
        if (now := time.monotonic()) >= self._due:
            self._due = now + 0.1
            try:
                self._bytes = int(Path("/proc/self/statm").read_bytes().split()[1]) * _PAGE
            except OSError:
                self._bytes = 0
        return self._bytes


def alone(name: str, queues: Sequence[str]) -> WorkerSlot:
    """A slot for a worker without an arbiter: no plugins, and a scoreboard that nobody reads."""
    plugins = pluggy.PluginManager("resqued")
    plugins.add_hookspecs(hookspecs)
    board = Scoreboard.create()
    writer = RecordWriter(
        board,
        1,
        Record(
            Phase.BOOTING,
            pid=os.getpid(),
            name=name,
            started=time.monotonic(),
            ticks=linux.birth_ticks(os.getpid()),
        ),
    )
    boot = Boot(
        config=Config(queues=tuple(QueueShare(queue) for queue in queues)),
        hooks=Hooks(plugins),
        writer=writer,
        queues=tuple(queues),
        trial=False,
        doorbell=-1,
        dumps=-1,
    )
    slot = WorkerSlot(boot, Signals(again_is_now=True), alone=True)
    weakref.finalize(slot, board.close).atexit = False  # of one that never worked
    return slot
