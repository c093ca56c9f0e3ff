"""Find a worker's next job: replaces the part of RQ's loop (`BaseWorker.work`) that does it.

So no signal handler raises out of that part, and no job is lost in it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from rq.exceptions import StopRequested
from rq.job import Job
from rq.queue import Queue
from rq.suspension import WORKERS_SUSPENDED
from rq.worker import WorkerStatus

from resqued import logs
from resqued.broker.bad_data import describe_error
from resqued.broker.claims import SkippedJobs, Suspended
from resqued.broker.listener import Watched
from resqued.broker.outages import NO_ANSWER, Outage
from resqued.logs import LogEvent
from resqued.scoreboard import Reason
from resqued.worker.idle import TURN
from resqued.worker.job import rqlog
from resqued.worker.job.interruptions import Interrupted
from resqued.worker.queue_order import LOOK_AGAIN

if TYPE_CHECKING:
    from resqued.worker.context import Context
    from resqued.worker.in_hand import InHand
    from resqued.worker.maintenance import Maintenance
    from resqued.worker.parts import WorkerCommands
    from resqued.worker.registration import WorkerRegistration

_ASK_AFTER: Final = 240.0  # seconds after which a worker without a job asks Redis itself
_NOTICED: Final = 1.2  # seconds until the steward has seen the suspension too
_CALM: Final = 0.02  # seconds between two looks at queues that are at their limit
_RESUMED: Final = 0.5  # seconds between two checks whether a suspension is over


FAIL_EXECUTION: Final = "fail-execution"
"""The verdict Fail in the form of a command; RQ has none that does it."""


class Runner(Protocol):
    """How a worker runs its jobs: resqued's way, or that of a user's class."""

    def start(self) -> None:
        """Called once the worker's signal handlers are installed."""

    def close(self) -> None:
        """The worker exits; end what jobs have left."""

    def cut_for(self, command: dict[str, Any]) -> type[Interrupted] | None:
        """The cut of the job in hand that this command asks for, or None. In a signal handler."""

    def drop_stray(self, job_id: str, execution_id: str) -> None:
        """Put back a job that Redis, restored to an older state, says the worker runs, and that it
        does not. Raises redis errors."""

    def rest(self) -> float:
        """There is no job. Seconds after which to call again, at most."""


class Fetcher:
    """Finds the jobs of one worker."""

    def __init__(
        self,
        context: Context,
        runner: Runner,
        in_hand: InHand,
        commands: WorkerCommands,
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
        self._full_at = 0.0  # when it last waited for a queue that was at its limit
        self._asked_at = 0.0  # when it last asked Redis for a job

    def next(self, burst: bool, max_idle_time: float | None) -> tuple[Job, Queue] | None:
        """The next job and its queue; None when the worker has to exit. burst: exit when all queues
        are empty. max_idle_time: seconds without a job after which the worker exits, also in a
        burst."""
        context, slot, in_hand = self._context, self._slot, self._in_hand
        began = time.monotonic()
        # Only a job that the class was given and has not begun; one that could not be loaded in an
        # outage is taken again below.
        handed = in_hand.taken
        outage = slot.outage()
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
                    self._registration.beat()  # the worker's key may have expired
                if not context.has_next:
                    self._skipped.tend(self._worker, context.queues)
                    self._maintenance.turn()
                # Jobs that came since the end of the last one are seen before the worker waits.
                found = in_hand.look(again=burst or context.queues.known is not None)
                first, self._has_looked = not self._has_looked, True
                outage.over()
                if found is not None:
                    if slot.alone:
                        rqlog.log_taken(self._worker, *found)
                    return found
                if not in_hand.nothing_there:
                    continue  # what was found is not to be run; look again
                if first:
                    continue  # recycling is possible from here on
                if burst and max_idle_time is None and not in_hand.full:
                    if not context.queues.has_changed():
                        slot.leave(Reason.BURST)
                elif not self._wait(began, max_idle_time):
                    slot.leave(Reason.BURST)
            except Suspended:
                if burst:
                    logs.info("suspended; a burst ends here, jobs may be left", LogEvent.SUSPENDED)
                    slot.leave(Reason.BURST)
                else:
                    self._be_suspended(outage)
            except NO_ANSWER as error:
                context.listener.close()
                context.waiter.release()
                self._registration.check_soon()
                outage.wait(error)

    def _has_to_leave(self) -> bool:
        """Whether there is a reason to exit; it is noted for `worker_exiting`. Recycling is decided
        between two jobs only: so each worker runs at least one job, even under a limit that it
        exceeds from the start."""
        slot, listener = self._slot, self._context.listener
        # Clear these before the checks below and the look at the queues, so that nothing is missed.
        slot.signals.alert = listener.pushed = False
        if listener.commands:
            self._commands.hear()
        if (reason := slot.stopping) is not Reason.NONE:
            slot.leave(reason)
        elif slot.reason is Reason.NONE and self._has_looked and not self._context.has_next:
            why = slot.hooks.ask("should_recycle", worker=slot.snapshot())
            if why:
                logs.info(f"recycling reason={why!r}", LogEvent.WORKER_RECYCLED)
                slot.leave(Reason.RECYCLED)
        return slot.reason is not Reason.NONE

    def _wait(self, began: float, max_idle_time: float | None) -> bool:
        """Wait for a push or a signal; False when `max_idle_time` is over. Raises redis errors."""
        context, worker = self._context, self._worker
        self._asked_at = time.monotonic()
        worker.set_state(WorkerStatus.IDLE)
        worker.heartbeat()
        self._registration.probe()
        seconds = min(TURN, self._runner.rest(), context.open_queues.patience)
        if max_idle_time is not None:
            seconds = min(seconds, began + max_idle_time - time.monotonic())
            if seconds <= 0:
                logs.info(f"idle for {max_idle_time} s", LogEvent.WORKER_NOTICE)
                return False
        for job_id, execution_id in self._registration.look():
            self._runner.drop_stray(job_id, execution_id)
        served = [queue.key for queue in self._in_hand.served]
        full = self._in_hand.full
        keys = [queue.key for queue in self._in_hand.looked_into if queue.key not in full]
        limits = [limit for key in full if (limit := context.limits.get(key)) is not None]
        if (order := context.order) is not None:
            seconds = min(seconds, LOOK_AGAIN * random.uniform(0.8, 1.0))
        called = None if order is None else lambda: order.is_called
        if limits:  # each start and end of others is reported
            self._slot.signals.sleep(self._full_at + _CALM - time.monotonic())
            self._full_at = time.monotonic()
        watched = Watched(keys, context.queues.known, limits)
        context.waiter.wait(served, watched, seconds, self.rest, called)
        context.queues.forget()
        return True

    def rest(self) -> bool:
        """One turn of an idle worker that need not ask Redis; whether it may go on waiting. The
        leader among the idle workers learns of pushes, and the steward of what the leader
        misses."""
        slot = self._slot
        if not slot.has_steward or time.monotonic() >= self._asked_at + _ASK_AFTER:
            return False
        slot.turn()
        return not (slot.writer.board.maintenance_is_due or self._has_to_leave())

    def _be_suspended(self, outage: Outage) -> None:
        """Wait until `rq resume`, or a reason to exit."""
        slot, worker = self._slot, self._worker
        logs.info("suspended; `rq resume` resumes", LogEvent.SUSPENDED)
        worker.set_state(WorkerStatus.SUSPENDED)
        slot.show("suspended")
        self._context.waiter.release()
        slot.signals.sleep(_NOTICED)  # until the steward has seen it too
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
        """As the steward saw it last; without a steward, ask Redis. Raises redis errors."""
        if self._slot.has_steward:
            return self._slot.writer.board.steward_status().suspended
        return bool(self._worker.connection.exists(WORKERS_SUSPENDED))

    def execute_theirs(
        self, execute: Callable[[Job, Queue], object], job: Job, queue: Queue
    ) -> None:
        """Wraps an `execute_job` of the user's. An error before the job has begun counts as the
        job's fault, unless several jobs in a row meet one."""
        try:
            execute(job, queue)
        except Exception as error:
            in_hand, unread = self._in_hand, self._context.unreadable
            taken = in_hand.taken
            if taken is None or isinstance(error, (*NO_ANSWER, StopRequested)):
                raise
            if unread.reaches_limit():
                in_hand.give_back(why=f"its worker could not begin it: {describe_error(error)}")
                unread.leave(self._slot, taken.job_id, describe_error(error))
            else:
                in_hand.fail_unstarted(queue, error)
