"""How a worker comes to its next job: the part of RQ's loop (`BaseWorker.work`) that looks for one.

It is replaced, so that no signal raises out of it and no job is lost in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from rq.exceptions import StopRequested
from rq.job import Job
from rq.queue import Queue
from rq.suspension import WORKERS_SUSPENDED
from rq.worker import WorkerStatus

from resqued.broker.bad_data import describe_error
from resqued.broker.claims import SkippedJobs, Suspended
from resqued.broker.outages import NO_ANSWER, Outage
from resqued.logs import logger
from resqued.scoreboard import Reason
from resqued.worker.idle import TURN
from resqued.worker.job import rqlog
from resqued.worker.job.interruptions import Interrupted

if TYPE_CHECKING:
    from resqued.worker.context import Context
    from resqued.worker.in_hand import InHand
    from resqued.worker.maintenance import Maintenance
    from resqued.worker.parts import Commands
    from resqued.worker.registration import WorkerRegistration

_ASK_AFTER: Final = 240.0  # seconds after which a worker whom others inform looks for itself
_NOTICED: Final = 1.2  # seconds until the steward has seen a suspension that the worker has met
_RESUMED: Final = 0.5  # seconds between two looks whether a suspension is over


class Runner(Protocol):
    """How the jobs of a worker are run: by resqued, or by a class of somebody else."""

    def start(self) -> None:
        """The worker's signals are its own from here on."""

    def close(self) -> None:
        """The worker leaves; nothing of a job stays behind."""

    def cut_for(self, command: dict[str, Any]) -> type[Interrupted] | None:
        """By what this command (`rq.command`) cuts the job in hand; None: it does not. In a signal
        handler."""

    def drop_stray(self, job_id: str, execution_id: str) -> None:
        """Redis, gone back in time, says that the worker runs what it does not any more. Raises
        redis errors."""

    def rest(self) -> float:
        """There is no job. Seconds after which to look again, at most."""


class Fetcher:
    """One worker's."""

    def __init__(
        self,
        context: Context,
        runner: Runner,
        in_hand: InHand,
        commands: Commands,
        registration: WorkerRegistration,
        maintenance: Maintenance,
    ) -> None:
        self._context = context
        self._slot = context.slot
        self._worker = context.worker
        self._runner = runner
        self._in_hand = in_hand
        self._commands = commands
        self._registration = registration
        self._maintenance = maintenance
        self._skipped = SkippedJobs(context.claims)
        self._has_looked = False
        self._asked_at = 0.0  # when it last asked Redis for what it waits for

    def next(self, burst: bool, max_idle_time: float | None) -> tuple[Job, Queue] | None:
        """The next job and its queue; None when the worker has to leave.

        burst: it ends when all queues are empty. max_idle_time: seconds without a job after which
        the worker leaves, also in a burst.
        """
        context, slot, in_hand = self._context, self._slot, self._in_hand
        began = time.monotonic()
        # Only what the class was given and has not begun: a job whose reading met an outage, below,
        # is taken again.
        handed = in_hand.taken
        outage = Outage(slot.config, slot.signals.sleep)
        while True:
            slot.turn()
            try:
                if handed is not None:
                    self._skipped.add(handed, type(self._worker))
                    in_hand.forget()
                    handed = None
                if self._has_to_leave():
                    context.waiter.release()
                    return None
                if outage.lasts:
                    self._registration.beat()  # our key may have expired meanwhile
                if not context.has_next:
                    self._skipped.tend(self._worker, context.queues)
                    self._maintenance.turn()
                # What has come since the end of the last job is seen by whoever waits for it.
                found = in_hand.look(again=burst or context.queues.known is not None)
                first, self._has_looked = not self._has_looked, True
                outage.over()
                if found is not None:
                    if slot.alone:
                        rqlog.taken(self._worker, *found)
                    return found
                if not in_hand.nothing_there:
                    continue  # what was there is not to be run; look again
                if first:
                    continue  # a reason to be recycled counts from here on
                if burst and max_idle_time is None:
                    if not context.queues.has_changed():
                        slot.leave(Reason.BURST)
                elif not self._wait(began, max_idle_time):
                    slot.leave(Reason.BURST)
            except Suspended:
                if burst:
                    logger.info("suspended; a burst ends here, jobs may be left")
                    slot.leave(Reason.BURST)
                else:
                    self._be_suspended(outage)
            except NO_ANSWER as error:
                context.listener.close()
                context.waiter.release()
                self._registration.doubt()
                outage.wait(error)

    def _has_to_leave(self) -> bool:
        """Whether there is a reason to; it is remembered for `worker_exiting`.

        Recycling is between two jobs: before its first look the worker is not asked, so that also
        under a limit which it exceeds from the start a job is done by each worker.
        """
        slot, listener = self._slot, self._context.listener
        # What has come until here is seen below, and by the look at the queues after it.
        slot.signals.alert = listener.pushed = False
        if listener.commands:
            self._commands.hear()
        if (reason := slot.stopping) is not Reason.NONE:
            slot.leave(reason)
        elif slot.reason is Reason.NONE and self._has_looked and not self._context.has_next:
            why = slot.hooks.ask("should_recycle", worker=slot.snapshot())
            if why:
                logger.info(f"recycling reason={why!r}")
                slot.leave(Reason.RECYCLED)
        return slot.reason is not Reason.NONE

    def _wait(self, began: float, max_idle_time: float | None) -> bool:
        """Wait for a push or a signal; False when it has waited long enough altogether. Raises
        redis errors."""
        context, worker = self._context, self._worker
        self._asked_at = time.monotonic()
        worker.set_state(WorkerStatus.IDLE)
        worker.heartbeat()
        self._registration.probe()
        seconds = min(TURN, self._runner.rest())
        if max_idle_time is not None:
            seconds = min(seconds, began + max_idle_time - time.monotonic())
            if seconds <= 0:
                logger.info(f"idle for {max_idle_time} s")
                return False
        for job_id, execution_id in self._registration.look():
            self._runner.drop_stray(job_id, execution_id)
        keys = [queue.key for queue in worker._ordered_queues]
        context.waiter.wait(keys, context.queues.known, seconds, self.rest)
        context.queues.forget()
        return True

    def rest(self) -> bool:
        """A turn of a worker without a job whom others keep informed: the leader of pushes, the
        steward of what the leader misses; whether it may go on waiting without asking Redis."""
        slot = self._slot
        if not slot.attended or time.monotonic() >= self._asked_at + _ASK_AFTER:
            return False
        slot.turn()
        return not (slot.writer.board.maintenance_is_due or self._has_to_leave())

    def _be_suspended(self, outage: Outage) -> None:
        """Until `rq resume`, or there is a reason to leave."""
        slot, worker = self._slot, self._worker
        logger.info("suspended; `rq resume` resumes")
        worker.set_state(WorkerStatus.SUSPENDED)
        slot.show("suspended")
        self._context.waiter.release()
        slot.signals.sleep(_NOTICED)  # the steward, too, must have seen it by then
        while not self._has_to_leave():
            slot.turn()
            try:
                worker.heartbeat()
                if not self._is_suspended():
                    break
                outage.over()
            except NO_ANSWER as error:
                outage.wait(error)
            slot.signals.sleep(_RESUMED)
        slot.show("idle")

    def _is_suspended(self) -> bool:
        """As the steward saw it last; without one the worker looks itself. Raises redis errors."""
        if self._slot.attended:
            return self._slot.writer.board.steward_status().suspended
        return bool(self._worker.connection.exists(WORKERS_SUSPENDED))

    def execute_theirs(
        self, execute: Callable[[Job, Queue], object], job: Job, queue: Queue
    ) -> None:
        """Stands before an `execute_job` of the user's: what that raises before the job has begun
        is due to the job, unless all are met by it."""
        try:
            execute(job, queue)
        except Exception as error:
            in_hand, unread = self._in_hand, self._context.unreadable
            taken = in_hand.taken
            if taken is None or isinstance(error, (*NO_ANSWER, StopRequested)):
                raise
            if unread.is_one_too_many():
                in_hand.give_back()
                unread.leave(self._slot, taken.job_id, describe_error(error))
            else:
                in_hand.spoiled(queue, error)
