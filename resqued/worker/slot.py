"""What surrounds a worker of any class: its settings, hooks, record, signals and process title."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import pluggy

from resqued import descendants, hookspecs, linux, logs, titles
from resqued.broker.outages import Outage
from resqued.broker.owner import owner_of
from resqued.broker.prerequisites import MissingRights
from resqued.config import Config
from resqued.facts import Facts
from resqued.logs import LogEvent
from resqued.plugins.hooks import Hooks
from resqued.scoreboard import (
    LONGEST_ID,
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
from resqued.worker.job.counts import JobCounts
from resqued.worker.job.interruptions import ORDERS, Failed, Interrupted
from resqued.worker.job.leftovers import Leftovers
from resqued.worker.job.signals import HARD, HARD_FAIL, kill_if_not_left
from resqued.worker.memory import Memory
from resqued.worker.signals import Signals

FRESH: Final = 30.0
"""Seconds after the steward's heartbeats within which a worker sends none of its own."""


class WorkerSlot:
    """A worker's surroundings. Made after the fork, in the worker. alone: there is no arbiter (`rq
    worker -w ...`); nothing reads the record then."""

    def __init__(self, boot: Boot, signals: Signals, *, alone: bool = False) -> None:
        self.config: Config = boot.config
        self.hooks = boot.hooks
        self.writer = boot.writer
        self.queues = boot.queues
        self.signals = signals
        self.boundary = Boundary(signals)
        self.alone = alone
        self.reason = Reason.NONE
        """Why the worker exits; NONE while it does not, or when its loop ends by itself."""
        self.registered = False
        """Whether RQ may know of the worker, so that it has to be deregistered."""
        self.on_ready: Callable[[], None] = lambda: None
        """Called when the worker is ready: Redis has accepted its writes."""
        self.damaged = False
        """Whether a job has closed descriptors that were not its own."""
        self.forge = boot.forge
        """Forks children for jobs; None without an arbiter."""
        self.first = boot.first
        self.missing_rights = MissingRights()
        """Commands that the Redis user may not call."""
        self._gone = False
        self._boot = boot
        self._parent = os.getppid()
        self.pid = os.getpid()
        self.turn_limit = boot.config.loop_timeout
        """Seconds that a turn of the loop, or a step between two phases, may take before the worker
        counts as stuck. Turns are much shorter (`idle.TURN`)."""
        descendants.mark_descendants(self.pid, boot.writer.record.ticks)
        self._memory = Memory()
        self.leftovers = Leftovers(self.pid, boot.writer.record.ticks)
        self.owner = owner_of(boot.writer.record, boot.arbiter)
        self.counts = JobCounts(boot.writer)
        signals.on_cut = self._note_cut

    # Input.

    @property
    def stopping(self) -> Reason:
        """Why the worker has to exit; NONE: it has not."""
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
    def has_steward(self) -> bool:
        """Whether a steward handles heartbeats, commands and suspension."""
        steward_status = self.writer.board.steward_status()
        return not self.alone and steward_status.is_fresh(time.monotonic(), FRESH)

    @property
    def seen_elsewhere(self) -> Callable[[], bool] | None:
        """For `Outage`: whether the steward sees that Redis does not answer."""
        return None if self.alone else self._is_outage_known

    def _is_outage_known(self) -> bool:
        facts = Facts.from_plain(self.writer.board.facts.read())
        if facts is None or facts.answers:
            return False
        return time.monotonic() < facts.measured + FRESH

    def outage(self) -> Outage:
        """A new one, for the worker's loop; a signal ends its waits."""
        return Outage(self.config, self.signals.sleep, seen_elsewhere=self.seen_elsewhere)

    def become(self, pid: int, writer: RecordWriter) -> None:
        """Become the slot of a child for a job, which writes no record of its own."""
        self.pid, self.writer = pid, writer
        self._boot = replace(self._boot, writer=writer)

    # Output.

    def snapshot(self, *, after: int = 0) -> Worker:
        """What hooks are shown of the worker. after: as if it had done so many jobs more."""
        return self._boot.worker(self.boundary.threads, after)

    def call_hook(self, hook: str, **arguments: Any) -> None:
        if self.hooks.has(hook):
            self.hooks.tell(hook, worker=self.snapshot(), **arguments)

    def show(self, activity: str) -> None:
        """Show in the process title what the worker does."""
        titles.worker(self.writer.slot, self.queues, activity)

    @property
    def logs_each_job(self) -> bool:
        """Whether `log` writes anything."""
        return self.alone or logs.logs_each_job()

    def log(
        self, event: LogEvent, text: str, fields: Mapping[str, Any], *, more: bool = False
    ) -> None:
        """As `logs.each_job`; without an arbiter RQ logs its own lines instead."""
        if self.alone:
            logs.debug(text, event, **fields)
        else:
            logs.each_job(event, __name__, text, fields, more=more)

    def ring(self) -> None:
        """Wake the arbiter: there is news on the record."""
        if not self.alone and not self.damaged:
            os.eventfd_write(self._boot.doorbell, 1)

    def step(self, phase: Phase, limit: float | None = None, **changes: Any) -> None:
        """Reach a phase, and write it with the changes to the record, as a whole. limit: seconds
        until the next step or turn is due; 0: no limit; None: the loop's."""
        now = time.monotonic()
        limit = self.turn_limit if limit is None else limit
        deadline = now + limit if limit else 0.0
        self.writer.update(phase=phase, heartbeat=now, deadline=deadline, **changes)

    def turn(self, limit: float | None = None) -> None:
        """Note one turn of a loop on the record: alive, and not stuck. limit: as for `step`."""
        now, record = time.monotonic(), self.writer.record
        fresh = (
            record.heartbeat + self.turn_limit == record.deadline and now < record.heartbeat + 0.1
        )
        if limit is not None or not fresh:
            limit = self.turn_limit if limit is None else limit
            self.writer.update(heartbeat=now, deadline=now + limit)
        if self.signals.reopened:
            self.signals.reopened = False
            self.hooks.tell("reopen_logs", role="worker")

    def take(self, job_id: str, queue: str, execution_id: str = "") -> None:
        """Note that a job left its queue for this worker. execution_id: if a step started it."""
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

    def become_idle(self, *, failed: bool | None = None, briefly: bool = False) -> None:
        """Note that no job is in hand. failed: how the last one ended, if it was run; for the
        counters. briefly: the next job is started already; this is written together with its
        phase."""
        logs.unbind_job()
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

    def note_lost(self, job_id: str, verdict: str) -> None:
        """Tell the arbiter that a job's process has died, and what became of the job."""
        record = self.writer.record
        self.writer.update(lost=record.lost + 1, lost_job=job_id, lost_verdict=verdict)
        self.ring()

    def become_ready(self) -> None:
        """The worker is ready and waits for jobs."""
        self.writer.update(ready=self.writer.record.ready or time.monotonic())
        self.become_idle()
        self.show("idle")
        self.ring()
        self.on_ready()

    def leave(self, reason: Reason) -> None:
        """Note why the worker exits; the first reason counts."""
        if self.reason is Reason.NONE:
            self.reason = reason
            logs.debug(f"leaving reason={reason.name.lower()}")

    def announce_exit(self) -> None:
        """Call worker_exiting, once."""
        if self._gone:
            return
        self._gone = True
        logs.let_out()
        self.leave(Reason.ASKED if self.alone else Reason.LOOP)
        self.step(Phase.LEAVING, reason=self.reason)
        self.call_hook("worker_exiting", reason=self.reason.name.lower())

    def close(self) -> None:
        """Give back all that a worker without an arbiter has taken from its process."""
        self.signals.close()
        self.boundary.close()
        self.writer.board.close()

    def _note_cut(self, kind: type[Interrupted]) -> None:
        """Called in the signal handler, right before a cut is raised in the job. A job that is to
        be stopped is killed if it does not end soon; but not without an arbiter, as then nothing
        would write its outcome."""
        if kind is not Interrupted:
            self.writer.update(stopped=ORDERS[kind])
            if not self.alone:
                kill_if_not_left(HARD if kind is not Failed else HARD_FAIL)


def alone(name: str, queues: Sequence[str]) -> WorkerSlot:
    """A slot for a worker without an arbiter: no plugins, and a scoreboard that nothing reads."""
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
    weakref.finalize(slot, board.close).atexit = False  # if it never worked
    return slot
