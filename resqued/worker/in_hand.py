"""The job that a worker has in hand, from its queue to the moment it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.client import Pipeline
from rq.exceptions import NoSuchJobError
from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue

from resqued import linux
from resqued.broker.bad_data import describe_error
from resqued.broker.claims import Claim, ClaimValidity, Suspended, tell_lost
from resqued.broker.failures import fail_claimed
from resqued.broker.fencing import exists, send_start
from resqued.broker.hand import StepResult
from resqued.broker.outages import NO_ANSWER
from resqued.broker.owner import add_running
from resqued.logs import logger
from resqued.scoreboard import Phase, Reason
from resqued.worker.job.unreadable import reads_as_rqs_own

if TYPE_CHECKING:
    from resqued.worker.context import Context
    from resqued.worker.parts import Commands


class InHand:
    """One worker's. Methods raise redis errors where they do not say that they wait."""

    def __init__(self, context: Context, commands: Commands) -> None:
        self._context = context
        self._slot = context.slot
        self._worker = context.worker
        self._commands = commands
        self._claims = context.claims
        self._queues = context.queues
        self.taken: Claim | None = None
        """The job in hand that was taken in RQ's way, until it is marked started."""
        self.started: Execution | None = None
        """The job in hand that a step has started, until it is run."""
        self.nothing_there = False
        """The last look has found all queues empty."""
        self._may_claim = False  # Redis may say that a job is claimed which is not begun
        self._validity = ClaimValidity(context.claims, context.slot.config)

    @property
    def is_empty(self) -> bool:
        """No job is in hand that has not begun."""
        return self.taken is None and self.started is None

    def forget(self) -> None:
        """Somebody else sees to what was taken."""
        self.taken = None
        self._slot.rest()

    # Looking.

    def look(self, *, again: bool = True) -> tuple[Job, Queue] | None:
        """Take a job if there is one and the worker still may; None if not. Raises Suspended.

        again: also if the end of the last job has just shown that there is none.
        """
        context, slot = self._context, self._slot
        if slot.alone:
            context.listener.open()
        self.nothing_there = False
        if self.started is not None:  # to be given back, which has met an outage
            self.give_back(quietly=True)
        self._queues.refresh()
        if not context.has_next and slot.stopping is not Reason.NONE:
            return None
        self._validity.looked_at = linux.boot_clock()
        fast = context.fast_path
        if fast is not None and not self._may_claim:
            step = fast.take(self._worker._ordered_queues, again=again)
            if step is not None:
                self._validity.looked_at = fast.sent_at
                return self.received(step)
        return self._claim()

    def received(self, step: StepResult) -> tuple[Job, Queue] | None:
        """What a step has answered. Raises Suspended."""
        if step.what == "suspended":
            raise Suspended
        self.nothing_there = step.what == "none"
        return self._open(step) if step.what == "job" else None

    def _open(self, step: StepResult) -> tuple[Job, Queue] | None:
        """Read a job that a step has started."""
        slot, fast = self._slot, self._context.fast_path
        assert fast is not None
        queue = self._queues.by_key(step.queue_key)
        slot.take(step.job_id, queue.name, step.execution_id)
        self._be_busy()
        execution = self.started = fast.execution_of(step)
        # To everybody it has started: who drains finishes it.
        if slot.now or slot.stopping is Reason.ORPHANED:
            self.give_back()
            return None
        try:
            job = fast.read(step, queue)
        except BaseException:  # whatever a hash that RQ did not write makes of it: see `_fetch`
            self.give_back(quietly=True)
            return None
        execution._job = job
        if self._validity.is_doubtful and not exists(self._worker.connection, job, execution):
            tell_lost(job.id)
            self.started = None
            slot.rest()
            return None
        self._reorder(queue)
        return job, queue

    def _claim(self) -> tuple[Job, Queue] | None:
        """Take a job in RQ's way. Raises Suspended. After a redis error one may be claimed, and no
        script starts another: the next call is given the same."""
        self._may_claim = True
        try:
            taken = self.taken = self._claims.take(self._worker._ordered_queues)
        except Suspended:
            self._may_claim = False
            raise
        if taken is None:
            self._may_claim, self.nothing_there = False, True
            return None
        slot = self._slot
        queue = self._queues.by_key(taken.queue_key)
        slot.take(taken.job_id, queue.name)
        self._be_busy()
        found = None
        if slot.stopping is not Reason.NONE:  # it came between the look and the hand
            self.give_back()
        else:
            try:
                found = self._fetch(taken, queue)
            except BaseException as error:
                if not self.spoiled(queue, error):
                    raise
        self._may_claim = False
        return found

    def _be_busy(self) -> None:
        """Let another worker wait for pushes."""
        self._context.waiter.release()
        if not self._slot.alone:
            self._context.listener.close()  # one connection a busy worker

    def _fetch(self, taken: Claim, queue: Queue) -> tuple[Job, Queue] | None:
        worker = self._worker
        try:
            job = worker.job_class.fetch(
                taken.job_id, connection=worker.connection, serializer=worker.serializer
            )
        except NoSuchJobError as error:
            if self._has_hash(taken):  # what is to run is not in it, or not for this class
                self._not_read(taken, queue, error)
            else:
                logger.warning(f"job={taken.job_id} is gone: deleted, expired or evicted")
                self._claims.forget()
        except NO_ANSWER as error:
            if "WRONGTYPE" not in str(error):
                raise
            self._not_read(taken, queue, error)
        except BaseException as error:  # whatever a hash that RQ did not write makes of it
            self._not_read(taken, queue, error)
        else:
            job.origin = job.origin or queue.name
            self._reorder(queue)
            job.redis_server_version = worker.get_redis_server_version()
            return job, queue
        self.forget()
        return None

    def _reorder(self, queue: Queue) -> None:
        if queue in self._worker._ordered_queues:
            self._worker.reorder_queues(reference_queue=queue)

    def _has_hash(self, taken: Claim) -> bool:
        """Also under the name that RQ's own class gives it."""
        keys = {self._worker.job_class.key_for(taken.job_id), Job.key_for(taken.job_id)}
        return bool(self._worker.connection.exists(*keys))

    # What cannot be run.

    def give_back(self, *, quietly: bool = False) -> None:
        """The job in hand, not begun, to the front of its queue.

        quietly: it is taken again at once, in RQ's way.
        """
        if self.started is not None and self._context.fast_path is not None:
            job_id = self._context.fast_path.give_back()
            self.started = None
        else:
            job_id = self._claims.put_back() or ""
        if job_id:
            logger.log("DEBUG" if quietly else "INFO", f"put back job={job_id}")
        self.forget()

    def _not_read(self, taken: Claim, queue: Queue, error: BaseException) -> None:
        """Fail a job that cannot be read, unless this worker seems to be what is wrong."""
        unread = self._context.unreadable
        ours = reads_as_rqs_own(self._worker.job_class, taken.job_id, self._worker.connection)
        if ours and unread.is_one_too_many():
            self.give_back()
            unread.leave(self._slot, taken.job_id, describe_error(error))
        else:
            self._bury(taken, queue, error)

    def spoiled(self, queue: Queue, error: BaseException) -> bool:
        """What was raised between the taking of a job and its start is due to the job: fail it.

        False, and nothing is done, once it has begun, or if Redis has only not answered.
        """
        taken = self.taken
        if self.started is not None and not isinstance(error, NO_ANSWER):
            self.give_back()  # and then in RQ's way, where it is failed
            return True
        if taken is None or isinstance(error, NO_ANSWER):
            return False
        self._bury(taken, queue, error)
        self.forget()
        return True

    def _bury(self, taken: Claim, queue: Queue, error: BaseException) -> None:
        """Fail a job that cannot even be read; else it would end one worker after another."""
        if self._validity.is_lost(taken):
            return
        reason = f"unreadable: {describe_error(error)}"
        logger.error(f"failed job={taken.job_id} queue={queue.name}: {reason}")
        job_class = self._worker.job_class
        if not self._worker.connection.exists(job_class.key_for(taken.job_id)):
            job_class = Job
        fail_claimed(self._claims, taken, job_class, queue.name, reason)

    # Beginning.

    def begin(self, execution: Execution, pipeline: Pipeline) -> bool:
        """Send the transaction that makes the job in hand a started one, until Redis answers.

        False when it is not ours any more; nothing is in hand then. Raises Overwritten.
        """
        taken, slot, worker = self.taken, self._slot, self._worker
        assert taken is not None
        self._claims.remove_in(taken, pipeline)
        add_running(pipeline, execution, slot.owner, slot.writer.record.queue)
        # On the record before it is in Redis: until the transaction is through, the claim counts.
        slot.writer.update(execution_id=execution.id)
        commands = list(pipeline.command_stack)

        def send() -> bool:
            pipeline.command_stack = list(commands)
            send_start(pipeline, worker.connection, execution.job, execution)
            return True

        def send_again() -> bool:
            # In an outage longer than our key lives another has put back what we had taken.
            stands = self._claims.holds(taken) or worker.connection.exists(execution.key)
            return bool(stands) and send()

        ours = False
        worker.executions[execution.id] = execution  # commands for it may come at once
        try:
            try:
                ours = not self._validity.is_lost(taken) and send()
            except NO_ANSWER as error:
                logger.warning(f"start of job={execution.job_id} not written yet: {error}")
                ours = self._context.retry.until_answered(send_again)
        finally:
            if not ours:
                worker.executions.pop(execution.id, None)
        self.taken = None
        if ours:
            self.prepared(execution)
        else:
            tell_lost(execution.job_id)
            slot.rest()
        return ours

    def prepared(self, execution: Execution) -> None:
        """The execution of the job in hand exists."""
        slot, fast = self._slot, self._context.fast_path
        self._worker.executions[execution.id] = execution
        if fast is None or not fast.holds(execution):
            slot.step(Phase.PREPARED)
        if not slot.alone and (kind := self._commands.hear()) is not None:
            slot.signals.want(kind, None)  # it was told before the worker had it to be cut

    def begun(self) -> Any:
        """The execution that a step has started, if that is what is in hand; it begins now."""
        execution, self.started = self.started, None
        if execution is not None:
            self.prepared(execution)
        return execution
