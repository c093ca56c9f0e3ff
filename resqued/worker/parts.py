"""The parts of one worker behind the class that RQ sees; its start, its end, its commands."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

from rq.worker import BaseWorker, WorkerStatus

from resqued import logs
from resqued.broker.outages import NO_ANSWER
from resqued.broker.strict import make_strict
from resqued.logs import LogEvent
from resqued.printable import listed
from resqued.scoreboard import Order, Phase
from resqued.worker.context import Context
from resqued.worker.fetcher import FAIL_EXECUTION, Fetcher, Runner
from resqued.worker.in_hand import InHand
from resqued.worker.job.interruptions import Interrupted
from resqued.worker.job.story_events import StoryEvents
from resqued.worker.maintenance import Maintenance
from resqued.worker.registration import WorkerRegistration
from resqued.worker.slot import WorkerSlot, alone


class WorkerParts:
    """The parts of one worker, each made at its first use; that opens no connection. worker: RQ's.
    make_runner: makes the runner."""

    def __init__(
        self, worker: BaseWorker, slot: WorkerSlot, make_runner: Callable[[WorkerParts], Runner]
    ) -> None:
        self.context = Context(worker, slot)
        self.worker: Any = worker
        self.slot = slot
        self.works = False
        """Whether it finds its jobs with the fetcher, and not only with RQ's loop."""
        self._make_runner = make_runner

    @cached_property
    def runner(self) -> Any:
        """A `Runner`."""
        return self._make_runner(self)

    @cached_property
    def commands(self) -> WorkerCommands:
        return WorkerCommands(self.context, lambda command: self.runner.cut_for(command))

    @cached_property
    def registration(self) -> WorkerRegistration:
        return WorkerRegistration(self.context)

    @cached_property
    def maintenance(self) -> Maintenance:
        return Maintenance(self.context)

    @cached_property
    def in_hand(self) -> InHand:
        return InHand(self.context, self.commands)

    @cached_property
    def fetcher(self) -> Fetcher:
        return Fetcher(
            self.context,
            self.runner,
            self.in_hand,
            self.commands,
            self.registration,
            self.maintenance,
        )

    # Its life.

    def bootstrap(self, set_up_logs: Callable[[str], object]) -> None:
        """Register in RQ, and be ready for jobs. Raises redis errors, HookFailed. Does not
        subscribe to commands as RQ's does: the steward or the listener does, and RQ's thread would
        prevent forks for jobs. set_up_logs: RQ's function, for a logger's name."""
        slot, worker = self.slot, self.worker
        if slot.alone:
            set_up_logs("rq.worker")
            set_up_logs("rq.job")
            make_strict(worker.connection, worker.name)
        slot.signals.take_over()
        self.context.renew_listener()
        slot.signals.on_command = self.commands.hear
        self.begin()
        self.runner.start()
        worker.register_birth()
        worker.set_state(WorkerStatus.STARTED)
        if slot.hooks.has("worker_ready"):
            slot.turn(slot.config.boot_timeout)  # the wait for Redis has no deadline, the hook has
        slot.hooks.demand("worker_ready", worker=slot.snapshot(), rq_worker=worker)
        slot.become_ready()
        level = "INFO" if slot.alone else "DEBUG"  # else the arbiter logs it
        logs.at(level, f"ready queues={listed(slot.queues)}", LogEvent.WORKER_NOTICE)

    def begin(self) -> None:
        """Prepare to find jobs. Also called where `work` was not, as in RQ's tests."""
        if not self.works:
            self.works = True
            self._shield()

    def _shield(self) -> None:
        """Wrap an `execute_job` that a user's class overrides."""
        worker = self.worker
        module = type(worker).execute_job.__module__
        if module.partition(".")[0] not in ("resqued", "rq"):
            worker.execute_job = partial(self.fetcher.execute_theirs, worker.execute_job)

    def teardown(self) -> None:
        """Put back what is claimed and deregister. If Redis is away, recovery does it."""
        slot, worker = self.slot, self.worker
        self.runner.close()
        slot.announce_exit()
        self.context.waiter.release()
        worker.unsubscribe()  # as other code may have subscribed
        if worker.scheduler:
            worker.stop_scheduler()
        try:
            event = StoryEvents(slot).put_back()
            if job_id := self.context.claims.put_back(event=event):
                logs.info(f"put back job={job_id}", LogEvent.JOB_PUT_BACK, job=job_id)
            self._close_hand()
            if slot.writer.record.execution_id and not slot.alone:
                return  # the job has no outcome: recovery ends it and deregisters
            worker.register_death()
        except NO_ANSWER as error:
            logs.debug(f"not deregistered: {error}")
        else:
            slot.step(Phase.LEFT)
        finally:
            self.context.listener.close()
            if slot.alone:
                slot.close()
                vars(worker).pop("_resqued", None)  # another `work` makes them again

    def _close_hand(self) -> None:
        """Put back what a step without a reply may have started. Raises redis errors."""
        fast = self.context.fast_path
        if fast is None or self.slot.writer.record.execution_id:
            return  # a job has no outcome: its recovery needs the hand
        if job_id := fast.close(StoryEvents(self.slot).put_back()):
            logs.info(f"put back job={job_id}", LogEvent.JOB_PUT_BACK, job=job_id)


class PartsOnDemand:
    """The attribute `_resqued` of a class that RQ sees: the worker's parts, made at their first
    use.

    A worker may run without an arbiter (`rq worker -w ...`), or the object may only represent
    another worker (`Worker.all()`), which needs no parts. Under an arbiter `place` is called first.
    """

    def __init__(self, make_runner: Callable[[WorkerParts], Any]) -> None:
        self._make_runner = make_runner

    def __get__(self, worker: Any, cls: type) -> Any:
        if worker is None:
            return self
        return self.place(worker, alone(worker.name, worker.queue_names()))

    def place(self, worker: Any, slot: WorkerSlot) -> WorkerParts:
        """Put the worker into this slot."""
        parts = WorkerParts(worker, slot, self._make_runner)
        vars(worker)["_resqued"] = parts
        return parts


def renew_after_fork(worker: Any) -> None:
    """Drop the parts of a worker without an arbiter that were made in another process."""
    parts = vars(worker).get("_resqued")
    if parts is not None and parts.slot.alone and parts.slot.pid != os.getpid():
        del vars(worker)["_resqued"]


class WorkerCommands:
    """Obeys commands (`rq.command`) for one worker. cut_for: `Runner.cut_for`."""

    def __init__(
        self, context: Context, cut_for: Callable[[dict[str, Any]], type[Interrupted] | None]
    ) -> None:
        self._context = context
        self._slot = context.slot
        self._cut_for = cut_for

    def hear(self) -> type[Interrupted] | None:
        """Read the commands for the worker; the cut of the job in hand that they ask for, if any.
        Called in the handler of COMMAND, and in the loop."""
        if not self._slot.alone:
            return self._obey(*self._slot.writer.order)
        signals, listener = self._slot.signals, self._context.listener
        kind = None
        listener.read()
        while True:
            try:
                command = listener.commands.popleft()
            except IndexError:  # also if a signal handler took the last one
                break
            if command.get("command") == "shutdown":
                signals.draining = signals.alert = True
            else:
                kind = self._cut_for(command) or kind
        if listener.pushed:
            signals.alert = True
        return kind

    def _obey(self, order: Order, execution_id: str) -> type[Interrupted] | None:
        """Obey a command that the arbiter has passed on, if it is for the job in hand."""
        if execution_id not in self._context.worker.executions:
            return None
        kind: type[Interrupted] | None = None
        if order is Order.STOP:
            command = {"command": "stop-execution", "execution_id": execution_id}
            kind = self._cut_for(command)
        elif order is Order.KILL:
            kind = self._cut_for({"command": "kill-horse"})
        elif order is Order.FAIL:
            kind = self._cut_for({"command": FAIL_EXECUTION, "execution_id": execution_id})
        return kind
