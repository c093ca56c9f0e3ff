"""What any RQ worker class becomes in a slot: it takes, waits, listens and leaves our way.

How a job is run stays the class's own. The loop around it is RQ's `work`; the part of it that
looks for a job is replaced, so that no signal raises out of it and no job is lost in it.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, Final

from redis.client import Pipeline
from rq.exceptions import NoSuchJobError, StopRequested
from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue
from rq.suspension import WORKERS_SUSPENDED
from rq.worker import WorkerStatus

from resqued import linux
from resqued.broker.burial import bury
from resqued.broker.claims import Suspended, Taken
from resqued.broker.connection import NO_ANSWER, Outage, until_answered
from resqued.broker.fencing import exists, send_start
from resqued.broker.hand import Step
from resqued.broker.oddities import said
from resqued.broker.owner import enter
from resqued.logs import logger
from resqued.scoreboard import Order, Phase, Reason
from resqued.worker import rqlog
from resqued.worker.interrupting import Interrupted
from resqued.worker.serving import Serving
from resqued.worker.unread import reads_as_rqs_own
from resqued.worker.waiting import TURN

_NOTICED: Final = 1.2  # seconds until the steward has seen a suspension that we have met
_LOOK_AFTER: Final = 5.0  # seconds between two looks at what Redis says of ourselves
_RESUMED: Final = 0.5  # seconds between two looks whether a suspension is over


class Slotted(Serving):
    """Mixed in before an RQ worker class."""

    _resqued_succeeds = False
    """A job that has returned is being ended: finished, or to be repeated."""

    _resqued_taken: Taken | None = None
    """The job in hand, until it is marked started."""
    _resqued_may_claim = False
    """Redis may say that a job is claimed which is not begun: no other is to be taken."""
    _resqued_started: Execution | None = None
    """The job in hand that a step has started, until it is run."""
    _resqued_seen_at = 0.0  # when we last looked what Redis says of ourselves
    _resqued_empty = False  # the last look has found nothing
    _resqued_has_looked = False
    _resqued_looked_at = 0.0  # when that began, on the clock that goes on in a suspended machine

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: float | None = None
    ) -> tuple[Job, Queue] | None:
        """The next job and its queue; None when the worker has to leave.

        timeout: None in a burst, which ends when all queues are empty; else it means nothing,
        since nothing blocks in Redis. max_idle_time: seconds without a job after which the worker
        leaves, also in a burst.
        """
        self._resqued_equip()  # where `work` has not begun, as RQ's tests do it
        slot = self._resqued_slot
        began = time.monotonic()
        # Only what the class was given and has not begun: a job whose reading met an outage, below,
        # is taken again.
        handed = self._resqued_taken
        outage = Outage(slot.config, slot.signals.sleep)
        while True:
            slot.turn()
            try:
                if handed is not None:
                    self._resqued_skip(handed)
                    handed = None
                if self._resqued_has_to_leave():
                    self._resqued_waiter.release()
                    return None
                if outage.lasts:
                    self._resqued_beat()  # our key may have expired meanwhile
                if not self._resqued_has_next:
                    self._resqued_skipped.tend(self, self.connection)
                    self._resqued_maintain()
                found = self._resqued_look()
                first, self._resqued_has_looked = not self._resqued_has_looked, True
                outage.over()
                if found is not None:
                    if slot.alone:
                        rqlog.taken(self, *found)
                    return found
                if not self._resqued_empty:
                    continue  # what was there is not to be run; look again
                if first:
                    continue  # a reason to be recycled counts from here on
                if timeout is None and max_idle_time is None:
                    if not self._resqued_learns_a_queue():
                        slot.leave(Reason.BURST)
                elif not self._resqued_idle(began, max_idle_time):
                    slot.leave(Reason.BURST)
            except Suspended:
                if timeout is None:
                    logger.info("suspended; a burst ends here, jobs may be left")
                    slot.leave(Reason.BURST)
                else:
                    self._resqued_be_suspended(outage)
            except NO_ANSWER as error:
                self._resqued_ear.close()
                self._resqued_waiter.release()
                self._resqued_seen_at = 0.0
                outage.wait(error)

    def _resqued_has_to_leave(self) -> bool:
        """Whether there is a reason to; it is remembered for `worker_exiting`.

        Recycling is between two jobs: before its first look the worker is not asked, so that also
        under a limit which it exceeds from the start a job is done by each worker.
        """
        slot = self._resqued_slot
        # What has come until here is seen below, and by the look at the queues after it.
        slot.signals.alert = self._resqued_ear.pushed = False
        if self._resqued_ear.commands:
            self._resqued_hear()
        if (reason := slot.stopping) is not Reason.NONE:
            slot.leave(reason)
        elif slot.reason is Reason.NONE and self._resqued_has_looked and not self._resqued_has_next:
            why = slot.hooks.ask("should_recycle", worker=slot.snapshot())
            if why:
                logger.info(f"recycling reason={why!r}")
                slot.leave(Reason.RECYCLED)
        return slot.reason is not Reason.NONE

    @property
    def _resqued_has_next(self) -> bool:
        """The next job is started already: nothing that takes long may come between."""
        return self._resqued_fast is not None and self._resqued_fast.has_next

    def check_for_suspension(self, burst: bool) -> None:
        """Not where RQ's loop asks, with a round trip; the script that takes sees to it."""

    def _resqued_skip(self, taken: Taken) -> None:
        """What was taken has been given to the class, which has not begun it."""
        self._resqued_skipped.add(taken, type(self))
        self._resqued_taken = None
        self._resqued_slot.rest()

    # Looking.

    def _resqued_look(self) -> tuple[Job, Queue] | None:
        """Take a job if there is one and we still may; None if not. Raises redis errors."""
        if self._resqued_slot.alone:
            self._resqued_ear.open()
        self._resqued_empty = False
        if self._resqued_started is not None:  # to be given back, which has met an outage
            self._resqued_give_back(quietly=True)
        self._resqued_refresh_queues()
        if not self._resqued_has_next and self._resqued_slot.stopping is not Reason.NONE:
            return None
        self._resqued_looked_at = linux.boot_clock()
        if self._resqued_fast is not None and not self._resqued_may_claim:
            step = self._resqued_fast.take(self._ordered_queues)
            if step is not None:
                self._resqued_looked_at = self._resqued_fast.sent_at
                return self._resqued_received(step)
        return self._resqued_claim()

    def _resqued_claim(self) -> tuple[Job, Queue] | None:
        """Take a job in RQ's way. Raises Suspended and redis errors; after these one may be
        claimed, and no script starts another: the next call is given the same."""
        self._resqued_may_claim = True
        try:
            taken = self._resqued_taken = self._resqued_taker.take(self._ordered_queues)
        except Suspended:
            self._resqued_may_claim = False
            raise
        if taken is None:
            self._resqued_may_claim, self._resqued_empty = False, True
            return None
        slot = self._resqued_slot
        prefix = self.queue_class.redis_queue_namespace_prefix
        slot.take(taken.job_id, taken.queue_key.removeprefix(prefix))
        self._resqued_waiter.release()
        if not slot.alone:
            self._resqued_ear.close()  # one connection a busy worker
        found = None
        if slot.stopping is not Reason.NONE:  # it came between the look and the hand
            self._resqued_give_back()
        else:
            try:
                found = self._resqued_fetch(taken)
            except BaseException as error:
                if not self._resqued_spoiled(self._resqued_queue_of(taken), error):
                    raise
        self._resqued_may_claim = False
        return found

    def _resqued_received(self, step: Step) -> tuple[Job, Queue] | None:
        """What a step has answered. Raises Suspended, redis errors."""
        if step.what == "suspended":
            raise Suspended
        self._resqued_empty = step.what == "none"
        return self._resqued_open(step) if step.what == "job" else None

    def _resqued_open(self, step: Step) -> tuple[Job, Queue] | None:
        """Read a job that a step has started. Raises redis errors."""
        slot = self._resqued_slot
        taken = Taken(step.job_id, step.queue_key)
        queue = self._resqued_queue_of(taken)
        slot.take(step.job_id, queue.name, step.execution_id)
        self._resqued_waiter.release()
        if not slot.alone:
            self._resqued_ear.close()  # one connection a busy worker
        assert self._resqued_fast is not None
        execution = self._resqued_started = self._resqued_fast.execution_of(step)
        # To everybody it has started: who drains finishes it.
        if slot.now or slot.stopping is Reason.ORPHANED:
            self._resqued_give_back()
            return None
        try:
            job = self._resqued_fast.read(step, queue)
        except BaseException:  # whatever a hash that RQ did not write makes of it: see `_fetch`
            self._resqued_give_back(quietly=True)
            return None
        execution._job = job
        if self._resqued_stood_still() and not exists(self.connection, job, execution):
            logger.warning(f"job={job.id} was put back by another worker; leaving it")
            self._resqued_started = None
            slot.rest()
            return None
        if queue in self._ordered_queues:
            self.reorder_queues(reference_queue=queue)
        return job, queue

    def _resqued_give_back(self, *, quietly: bool = False) -> None:
        """The job in hand, not begun, to the front of its queue. Raises redis errors.

        quietly: it is taken again at once, in RQ's way.
        """
        if self._resqued_started is not None and self._resqued_fast is not None:
            job_id = self._resqued_fast.give_back()
            self._resqued_started = None
        else:
            job_id = self._resqued_taker.put_back() or ""
        if job_id:
            logger.log("DEBUG" if quietly else "INFO", f"put back job={job_id}")
        self._resqued_taken = None
        self._resqued_slot.rest()

    def _resqued_fetch(self, taken: Taken) -> tuple[Job, Queue] | None:
        queue = self._resqued_queue_of(taken)
        try:
            job = self.job_class.fetch(
                taken.job_id, connection=self.connection, serializer=self.serializer
            )
        except NoSuchJobError as error:
            if self._resqued_has_hash(taken):  # what is to run is not in it, or not for this class
                self._resqued_not_read(taken, queue, error)
            else:
                logger.warning(f"job={taken.job_id} is gone: deleted, expired or evicted")
                self._resqued_taker.let_go()
        except NO_ANSWER as error:
            if "WRONGTYPE" not in str(error):
                raise
            self._resqued_not_read(taken, queue, error)
        except BaseException as error:  # whatever a hash that RQ did not write makes of it
            self._resqued_not_read(taken, queue, error)
        else:
            job.origin = job.origin or queue.name
            if queue in self._ordered_queues:
                self.reorder_queues(reference_queue=queue)
            job.redis_server_version = self.get_redis_server_version()
            return job, queue
        self._resqued_taken = None
        self._resqued_slot.rest()
        return None

    def _resqued_has_hash(self, taken: Taken) -> bool:
        """Also under the name that RQ's own class gives it. Raises redis errors."""
        keys = {self.job_class.key_for(taken.job_id), Job.key_for(taken.job_id)}
        return bool(self.connection.exists(*keys))

    def _resqued_not_read(self, taken: Taken, queue: Queue, error: BaseException) -> None:
        """Fail a job that cannot be read, unless this worker seems to be what is wrong."""
        ours = reads_as_rqs_own(self.job_class, taken.job_id, self.connection)
        if ours and self._resqued_unread.is_one_too_many():
            self._resqued_give_back()
            why = said(error)
            self._resqued_unread.leave(self._resqued_slot, taken.job_id, why)
        else:
            self._resqued_bury(taken, queue, error)

    def _resqued_is_lost(self, taken: Taken) -> bool:
        """Whether what we have taken may not be ours any more, and is not. Raises redis errors.

        Who stands still for long, because its machine was suspended or because it was stopped, is
        taken for dead, and what it had claimed is put back.
        """
        if not self._resqued_stood_still() or self._resqued_taker.holds(taken):
            return False
        logger.warning(f"job={taken.job_id} was put back by another worker; leaving it")
        return True

    def _resqued_stood_still(self) -> bool:
        """Whether so much time has passed since the look that others may take us for dead."""
        config = self._resqued_slot.config
        longest = min(config.dead_after / 4, config.loop_timeout / 2)
        return linux.boot_clock() - self._resqued_looked_at > longest

    def _resqued_spoiled(self, queue: Queue, error: BaseException) -> bool:
        """What was raised between the taking of a job and its start is due to the job: fail it.

        False, and nothing is done, once it has begun, or if Redis has only not answered.
        """
        taken = self._resqued_taken
        if self._resqued_started is not None and not isinstance(error, NO_ANSWER):
            self._resqued_give_back()  # and then in RQ's way, where it is failed
            return True
        if taken is None or isinstance(error, NO_ANSWER):
            return False
        self._resqued_bury(taken, queue, error)
        self._resqued_taken = None
        self._resqued_slot.rest()
        return True

    def _resqued_shield(self) -> None:
        """Stand before an `execute_job` of the user's, who stands before ours."""
        module = type(self).execute_job.__module__
        if module.partition(".")[0] not in ("resqued", "rq"):
            guarded = functools.partial(self._resqued_execute_theirs, self.execute_job)
            self.execute_job = guarded  # type: ignore[method-assign]

    def _resqued_execute_theirs(
        self, execute: Callable[[Job, Queue], object], job: Job, queue: Queue
    ) -> None:
        """What it raises before the job has begun is due to the job, unless all are met by it."""
        try:
            execute(job, queue)
        except Exception as error:
            taken = self._resqued_taken
            if taken is None or isinstance(error, (*NO_ANSWER, StopRequested)):
                raise
            if self._resqued_unread.is_one_too_many():
                self._resqued_give_back()
                self._resqued_unread.leave(self._resqued_slot, taken.job_id, said(error))
            else:
                self._resqued_spoiled(queue, error)

    def _resqued_bury(self, taken: Taken, queue: Queue, error: BaseException) -> None:
        """Fail a job that cannot even be read; else it would end one worker after another."""
        if self._resqued_is_lost(taken):
            return
        reason = f"unreadable: {said(error)}"
        logger.error(f"failed job={taken.job_id} queue={queue.name}: {reason}")
        job_class = self.job_class
        if not self.connection.exists(job_class.key_for(taken.job_id)):
            job_class = Job
        bury(self._resqued_taker, taken, job_class, queue.name, reason)

    # Ending.

    def handle_job_success(self, job: Job, *args: Any, **kwargs: Any) -> None:
        """RQ's, which ends the execution in the same way as a failure does."""
        self._resqued_succeeds = True
        try:
            super().handle_job_success(job, *args, **kwargs)
        finally:
            self._resqued_succeeds = False

    # Beginning.

    def _resqued_begin(self, execution: Execution, pipeline: Pipeline) -> bool:
        """Send the transaction that makes the job in hand a started one, until Redis answers.

        False when it is not ours any more; nothing is in hand then. Raises Overwritten.
        """
        assert self._resqued_taken is not None
        slot = self._resqued_slot
        self._resqued_taker.settle(self._resqued_taken, pipeline)
        enter(pipeline, execution, slot.owner, slot.writer.record.queue)
        # On the record before it is in Redis: until the transaction is through, the claim counts.
        slot.writer.update(execution_id=execution.id)
        commands = list(pipeline.command_stack)

        def send() -> bool:
            pipeline.command_stack = list(commands)
            send_start(pipeline, self.connection, execution.job, execution)
            return True

        def send_again() -> bool:
            # In an outage longer than our key lives another has put back what we had taken.
            lost = not self._resqued_taker.holds(taken) and not self.connection.exists(
                execution.key
            )
            return not lost and send()

        taken = self._resqued_taken
        ours = False
        self.executions[execution.id] = execution  # commands for it may come at once
        try:
            try:
                ours = not self._resqued_is_lost(taken) and send()
            except NO_ANSWER as error:
                logger.warning(f"start of job={execution.job_id} not written yet: {error}")
                ours = until_answered(send_again, Outage(slot.config), slot.turn)
        finally:
            if not ours:
                self.executions.pop(execution.id, None)
        self._resqued_taken = None
        if ours:
            self._resqued_prepared(execution)
        else:
            logger.warning(f"job={execution.job_id} was put back by another worker; leaving it")
            slot.rest()
        return ours

    def _resqued_prepared(self, execution: Execution) -> None:
        """The execution of the job in hand exists."""
        slot = self._resqued_slot
        self.executions[execution.id] = execution
        if self._resqued_fast is None or not self._resqued_fast.holds(execution):
            slot.step(Phase.PREPARED)
        if not slot.alone and (kind := self._resqued_hear()) is not None:
            slot.signals.want(kind, None)  # it was told to us before we had it to be cut

    # Having nothing to do.

    def _resqued_patience(self) -> float:
        """Seconds that it may wait at most."""
        return TURN

    def _resqued_idle(self, began: float, max_idle_time: float | None) -> bool:
        """Wait for a push or a signal; False when it has waited long enough altogether."""
        self.set_state(WorkerStatus.IDLE)
        self.heartbeat()
        self._resqued_probe()
        seconds = self._resqued_patience()
        if max_idle_time is not None:
            seconds = min(seconds, began + max_idle_time - time.monotonic())
            if seconds <= 0:
                logger.info(f"idle for {max_idle_time} s")
                return False
        if time.monotonic() >= self._resqued_seen_at + _LOOK_AFTER:
            self._resqued_seen_at = time.monotonic()
            for job_id, execution_id in self._resqued_entry.look():
                self._resqued_drop_stray(job_id, execution_id)
        self._resqued_waiter.wait(
            [queue.key for queue in self._ordered_queues], self._resqued_known_queues, seconds
        )
        self._resqued_known_at = 0.0
        return True

    def _resqued_drop_stray(self, job_id: str, execution_id: str) -> None:
        """Redis, gone back in time, says that we run what we have not any more. Raises redis
        errors. Here: the steward will see to it."""

    def _resqued_be_suspended(self, outage: Outage) -> None:
        """Until `rq resume`, or there is a reason to leave."""
        logger.info("suspended; `rq resume` resumes")
        self.set_state(WorkerStatus.SUSPENDED)
        self._resqued_slot.show("suspended")
        self._resqued_waiter.release()
        self._resqued_slot.signals.sleep(_NOTICED)  # the steward, too, must have seen it by then
        while not self._resqued_has_to_leave():
            self._resqued_slot.turn()
            try:
                self.heartbeat()
                if not self._resqued_is_suspended():
                    break
                outage.over()
            except NO_ANSWER as error:
                outage.wait(error)
            self._resqued_slot.signals.sleep(_RESUMED)
        self._resqued_slot.show("idle")

    def _resqued_is_suspended(self) -> bool:
        """As the steward saw it last; without one we look ourselves. Raises redis errors."""
        if self._resqued_slot.attended:
            return self._resqued_slot.writer.board.vigil().suspended
        return bool(self.connection.exists(WORKERS_SUSPENDED))

    # Commands.

    def _resqued_hear(self) -> type[Interrupted] | None:
        """Look what is asked of us; says whether the job in hand has to be cut.

        In the handler of COMMAND, or the loop.
        """
        if not self._resqued_slot.alone:
            return self._resqued_obey(*self._resqued_slot.writer.order)
        signals, kind = self._resqued_slot.signals, None
        self._resqued_ear.read()
        while True:
            try:
                command = self._resqued_ear.commands.popleft()
            except IndexError:  # also when a handler interrupted this and took the last
                break
            if command.get("command") == "shutdown":
                signals.draining = signals.alert = True
            else:
                kind = self._resqued_cut_for(command) or kind
        if self._resqued_ear.pushed:
            signals.alert = True
        return kind

    def _resqued_obey(self, order: Order, execution_id: str) -> type[Interrupted] | None:
        """What the arbiter has passed on of a command, if it is for the job in hand."""
        if execution_id not in self.executions:
            return None
        if order is Order.STOP:
            return self._resqued_cut_for(
                {"command": "stop-execution", "execution_id": execution_id}
            )
        if order is Order.KILL:
            return self._resqued_cut_for({"command": "kill-horse"})
        return None

    def _resqued_cut_for(self, command: dict[str, Any]) -> type[Interrupted] | None:
        """Whether this command, from `rq.command`, cuts the job in hand. In a signal handler."""
        return None
