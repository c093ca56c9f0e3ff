"""What stands behind the class that RQ sees: the parts of one worker, and its life with them."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

from rq.worker import BaseWorker, WorkerStatus

from resqued.broker.outages import NO_ANSWER
from resqued.broker.strict import make_strict
from resqued.logs import logger
from resqued.printable import listed
from resqued.scoreboard import Order, Phase
from resqued.worker.context import Context
from resqued.worker.fetcher import Fetcher, Runner
from resqued.worker.in_hand import InHand
from resqued.worker.job.interruptions import Interrupted
from resqued.worker.maintenance import Maintenance
from resqued.worker.registration import WorkerRegistration
from resqued.worker.slot import WorkerSlot, alone


class WorkerParts:
    """One worker's parts. Each is made when it is first needed; nothing is connected by that.

    worker: RQ's. make_runner: for this parts.
    """

    def __init__(
        self, worker: BaseWorker, slot: WorkerSlot, make_runner: Callable[[WorkerParts], Runner]
    ) -> None:
        self.context = Context(worker, slot)
        self.worker: Any = worker
        self.slot = slot
        self.works = False
        """It finds its jobs by itself, and not by RQ's loop alone."""
        self._make_runner = make_runner

    @cached_property
    def runner(self) -> Any:
        """A `Runner`."""
        return self._make_runner(self)

    @cached_property
    def commands(self) -> Commands:
        return Commands(self.context, lambda command: self.runner.cut_for(command))

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
        """Register, and be ready for jobs. Raises redis errors, HookFailed.

        It does not subscribe as RQ's does: the steward listens, or the listener. RQ's thread would
        be in the way of jobs that fork. set_up_logs: RQ's, for a logger's name.
        """
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
        slot.hooks.demand("worker_ready", worker=slot.snapshot(), rq_worker=worker)
        slot.ready()
        level = "INFO" if slot.alone else "DEBUG"  # else the arbiter says so
        logger.log(level, f"ready queues={listed(slot.queues)}")

    def begin(self) -> None:
        """Have what it takes to find jobs. Also where `work` has not begun, as RQ's tests do it."""
        if not self.works:
            self.works = True
            self._shield()

    def _shield(self) -> None:
        """Stand before an `execute_job` of the user's, who stands before ours."""
        worker = self.worker
        module = type(worker).execute_job.__module__
        if module.partition(".")[0] not in ("resqued", "rq"):
            worker.execute_job = partial(self.fetcher.execute_theirs, worker.execute_job)

    def teardown(self) -> None:
        """Leave no trace but what RQ keeps for a minute. Redis away: recovery will do it."""
        slot, worker = self.slot, self.worker
        self.runner.close()
        slot.say_goodbye()
        self.context.waiter.release()
        worker.unsubscribe()  # as somebody else's code may have subscribed
        if worker.scheduler:
            worker.stop_scheduler()
        try:
            if job_id := self.context.claims.put_back():
                logger.info(f"put back job={job_id}")
            self._close_hand()
            if slot.writer.record.execution_id and not slot.alone:
                return  # the job has no outcome: recovery sees to it, and to our name
            worker.register_death()
        except NO_ANSWER as error:
            logger.warning(f"not deregistered: {error}")
        else:
            slot.step(Phase.LEFT)
        finally:
            self.context.listener.close()
            if slot.alone:
                slot.close()
                vars(worker).pop("_resqued", None)  # another `work` begins anew

    def _close_hand(self) -> None:
        """What a step whose answer never came may have started goes back. Raises redis errors."""
        fast = self.context.fast_path
        if fast is None or self.slot.writer.record.execution_id:
            return  # a job has no outcome: its recovery has the hand
        if job_id := fast.close():
            logger.info(f"put back job={job_id}")


class PartsOnDemand:
    """The attribute `_resqued` of a class that RQ sees: the parts, made at its first use.

    A worker may be on its own (`rq worker -w ...`), or only a picture of another one
    (`Worker.all()`), which needs none. Under an arbiter `place` comes first.
    """

    def __init__(self, make_runner: Callable[[WorkerParts], Any]) -> None:
        self._make_runner = make_runner

    def __get__(self, worker: Any, cls: type) -> Any:
        if worker is None:
            return self
        return self.place(worker, alone(worker.name, worker.queue_names()))

    def place(self, worker: Any, slot: WorkerSlot) -> WorkerParts:
        """Have the worker work in this slot."""
        parts = WorkerParts(worker, slot, self._make_runner)
        vars(worker)["_resqued"] = parts
        return parts


def renew_after_fork(worker: Any) -> None:
    """A worker on its own whose process is not the one that it was used in before."""
    parts = vars(worker).get("_resqued")
    if parts is not None and parts.slot.alone and parts.slot.pid != os.getpid():
        del vars(worker)["_resqued"]


class Commands:
    """Those for one worker. cut_for: `Runner.cut_for`."""

    def __init__(
        self, context: Context, cut_for: Callable[[dict[str, Any]], type[Interrupted] | None]
    ) -> None:
        self._context = context
        self._slot = context.slot
        self._cut_for = cut_for

    def hear(self) -> type[Interrupted] | None:
        """Look what is asked of the worker; says whether the job in hand has to be cut.

        In the handler of COMMAND, or the loop.
        """
        if not self._slot.alone:
            return self._obey(*self._slot.writer.order)
        signals, listener = self._slot.signals, self._context.listener
        kind = None
        listener.read()
        while True:
            try:
                command = listener.commands.popleft()
            except IndexError:  # also when a handler interrupted this and took the last
                break
            if command.get("command") == "shutdown":
                signals.draining = signals.alert = True
            else:
                kind = self._cut_for(command) or kind
        if listener.pushed:
            signals.alert = True
        return kind

    def _obey(self, order: Order, execution_id: str) -> type[Interrupted] | None:
        """What the arbiter has passed on of a command, if it is for the job in hand."""
        if execution_id not in self._context.worker.executions:
            return None
        kind: type[Interrupted] | None = None
        if order is Order.STOP:
            command = {"command": "stop-execution", "execution_id": execution_id}
            kind = self._cut_for(command)
        elif order is Order.KILL:
            kind = self._cut_for({"command": "kill-horse"})
        return kind
