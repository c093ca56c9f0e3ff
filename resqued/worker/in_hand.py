"""Take a job and bring it to its start: from its queue to the moment it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.client import Pipeline
from rq.exceptions import NoSuchJobError
from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue

from resqued import linux, logs
from resqued.broker.bad_data import describe_error
from resqued.broker.claims import Claim, ClaimValidity, Suspended, log_lost
from resqued.broker.failures import fail_claimed
from resqued.broker.fencing import exists, send_start
from resqued.broker.hand import StepResult
from resqued.broker.outages import NO_ANSWER
from resqued.broker.owner import add_running
from resqued.logs import LogEvent
from resqued.scoreboard import Phase, Reason
from resqued.worker.job.story_events import StoryEvents
from resqued.worker.job.unreadable import reads_as_rqs_own

if TYPE_CHECKING:
    from resqued.worker.context import Context
    from resqued.worker.parts import WorkerCommands


class InHand:
    """The job in hand of one worker. Methods raise redis errors unless they say that they wait."""

    def __init__(self, context: Context, commands: WorkerCommands) -> None:
        self._context = context
        self._slot = context.slot
        self._worker = context.worker
        self._commands = commands
        self._claims = context.claims
        self._queues = context.queues
        self.looked_into: list[Queue] = []
        """The queues of the last look."""
        self.served: list[Queue] = []
        """The same with those that are paused."""
        self.taken: Claim | None = None
        """The job in hand that was claimed in RQ's way, until it is marked started."""
        self.started: Execution | None = None
        """The execution of the job in hand that a step has started, until it is run."""
        self.nothing_there = False
        """Whether the last look has found nothing to take."""
        self.full: tuple[str, ...] = ()
        """Keys of queues from which nothing could be taken then, as they were at their limit."""
        self._may_claim = False  # Redis may have a claim for a job that has not begun
        self._validity = ClaimValidity(context.claims, context.slot.config)

    @property
    def is_empty(self) -> bool:
        """Whether there is no job in hand that has not begun."""
        return self.taken is None and self.started is None

    def forget(self) -> None:
        """Drop the claimed job: it is handled elsewhere."""
        self.taken = None
        self._slot.become_idle()

    # Looking.

    def look(self, *, again: bool = True) -> tuple[Job, Queue] | None:
        """Take a job if there is one and the worker may still take it; else None. Raises Suspended.
        again: look also if the end of the last job has just shown that there is none."""
        context, slot = self._context, self._slot
        if slot.alone:
            context.listener.open()
        self.nothing_there = False
        if self.started is not None:  # giving it back has failed in an outage
            self.give_back(quietly=True)
        self._queues.refresh()
        context.open_queues.refresh()
        if not context.has_next and slot.stopping is not Reason.NONE:
            return None
        self.served = self._worker._ordered_queues
        if context.order is not None and not context.has_next:
            self.served = context.order.choose(self.served)
        self.looked_into = context.open_queues.of(self.served)
        self._validity.looked_at = linux.boot_clock()
        fast = context.fast_path
        if fast is not None and not self._may_claim:
            step = fast.take(self.looked_into, again=again)
            if step is not None:
                self._validity.looked_at = fast.sent_at
                return self.accept(step)
        return self._claim()

    def accept(self, step: StepResult) -> tuple[Job, Queue] | None:
        """Handle the result of a step. Raises Suspended."""
        if step.what == "suspended":
            raise Suspended
        self.nothing_there, self.full = step.what == "none", step.full
        return self._open(step) if step.what == "job" else None

    def _open(self, step: StepResult) -> tuple[Job, Queue] | None:
        """Load the job that a step has started."""
        slot, fast = self._slot, self._context.fast_path
        assert fast is not None
        queue = self._queues.by_key(step.queue_key)
        slot.take(step.job_id, queue.name, step.execution_id)
        self._be_busy()
        execution = self.started = fast.execution_of(step)
        # It counts as started, so a draining worker finishes it.
        if slot.now or slot.stopping is Reason.ORPHANED:
            self.give_back()
            return None
        try:
            job = fast.read(step, queue)
        except BaseException:  # a malformed hash; `_fetch` fails the job
            self.give_back(quietly=True)
            return None
        execution._job = job
        if self._validity.is_doubtful and not exists(self._worker.connection, job, execution):
            log_lost(job.id)
            self.started = None
            slot.become_idle()
            return None
        self._reorder(queue)
        return job, queue

    def _claim(self) -> tuple[Job, Queue] | None:
        """Claim a job in RQ's way. Raises Suspended. After a redis error a job may be claimed; no
        script then starts another, and the next call gets the same job."""
        self._may_claim = True
        try:
            taken = self.taken = self._claims.take(self.looked_into)
        except Suspended:
            self._may_claim = False
            raise
        self.full = self._claims.full
        if taken is None:
            self._may_claim, self.nothing_there = False, True
            return None
        slot = self._slot
        queue = self._queues.by_key(taken.queue_key)
        slot.take(taken.job_id, queue.name)
        self._be_busy()
        found = None
        if slot.stopping is not Reason.NONE:  # a stop arrived while the job was being taken
            self.give_back()
        else:
            try:
                found = self._fetch(taken, queue)
            except BaseException as error:
                if not self.fail_unstarted(queue, error):
                    raise
        self._may_claim = False
        return found

    def _be_busy(self) -> None:
        """Let another worker wait for pushes."""
        self._context.waiter.release()
        if not self._slot.alone:
            self._context.listener.close()  # a busy worker has one connection

    def _fetch(self, taken: Claim, queue: Queue) -> tuple[Job, Queue] | None:
        worker = self._worker
        try:
            job = worker.job_class.fetch(
                taken.job_id, connection=worker.connection, serializer=worker.serializer
            )
        except NoSuchJobError as error:
            if self._has_hash(taken):  # it lacks the function, or is of another class
                self._not_read(taken, queue, error)
            else:
                logs.warning(
                    f"job={taken.job_id} is gone: deleted, expired or evicted",
                    LogEvent.JOB_GONE,
                    job=taken.job_id,
                )
                self._claims.forget()
        except NO_ANSWER as error:
            if "WRONGTYPE" not in str(error):
                raise
            self._not_read(taken, queue, error)
        except BaseException as error:  # a malformed hash
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
        """Whether the job has a hash, also under the key of RQ's own class."""
        keys = {self._worker.job_class.key_for(taken.job_id), Job.key_for(taken.job_id)}
        return bool(self._worker.connection.exists(*keys))

    # What cannot be run.

    def give_back(self, *, quietly: bool = False, why: str = "") -> None:
        """Put the job in hand, which has not begun, back to the front of its queue. quietly: it is
        taken again at once, in RQ's way. why: for its story; by default, why the worker leaves."""
        event = None if quietly else StoryEvents(self._slot).put_back(why)
        if self.started is not None and self._context.fast_path is not None:
            job_id = self._context.fast_path.give_back(event)
            self.started = None
        else:
            job_id = self._claims.put_back(event=event) or ""
        if job_id:
            logs.at(
                "DEBUG" if quietly else "INFO",
                f"put back job={job_id}",
                LogEvent.JOB_PUT_BACK,
                job=job_id,
            )
        self.forget()

    def _not_read(self, taken: Claim, queue: Queue, error: BaseException) -> None:
        """Fail a job that cannot be read, unless this worker's set-up seems to be the cause."""
        unread = self._context.unreadable
        owned = reads_as_rqs_own(self._worker.job_class, taken.job_id, self._worker.connection)
        if owned and unread.reaches_limit():
            self.give_back(why=f"its worker could not read it: {describe_error(error)}")
            unread.leave(self._slot, taken.job_id, describe_error(error))
        else:
            self._fail(taken, queue, error)

    def fail_unstarted(self, queue: Queue, error: BaseException) -> bool:
        """Fail the job in hand for an error raised between its claim and its start. False, and
        nothing is done, once it has begun, or if Redis just did not answer."""
        taken = self.taken
        if self.started is not None and not isinstance(error, NO_ANSWER):
            self.give_back(quietly=True)  # then it is claimed in RQ's way, and failed
            return True
        if taken is None or isinstance(error, NO_ANSWER):
            return False
        self._fail(taken, queue, error)
        self.forget()
        return True

    def _fail(self, taken: Claim, queue: Queue, error: BaseException) -> None:
        """Fail a job that cannot be read; else it would be taken again and again."""
        if self._validity.is_lost(taken):
            return
        reason = f"unreadable: {describe_error(error)}"
        logs.error(
            f"failed job={taken.job_id} queue={queue.name}: {reason}",
            LogEvent.JOB_FAILED,
            job=taken.job_id,
            queue=queue.name,
        )
        job_class = self._worker.job_class
        if not self._worker.connection.exists(job_class.key_for(taken.job_id)):
            job_class = Job
        fail_claimed(self._claims, taken, job_class, queue.name, reason)

    # Beginning.

    def begin(self, execution: Execution, pipeline: Pipeline) -> bool:
        """Send the transaction that marks the job in hand started, until Redis answers. False when
        the job no longer belongs to this worker; then nothing is in hand. Raises Overwritten."""
        taken, slot, worker = self.taken, self._slot, self._worker
        assert taken is not None
        self._claims.remove_in(taken, pipeline)
        add_running(pipeline, execution, slot.owner, slot.writer.record.queue)
        # On the record before it is in Redis; until the transaction is done, the claim counts.
        slot.writer.update(execution_id=execution.id)
        commands = list(pipeline.command_stack)

        def send() -> bool:
            pipeline.command_stack = list(commands)
            send_start(pipeline, worker.connection, execution.job, execution)
            return True

        def send_again() -> bool:
            # In an outage longer than the worker's TTL the job may have been put back.
            stands = self._claims.holds(taken) or worker.connection.exists(execution.key)
            return bool(stands) and send()

        owned = False
        worker.executions[execution.id] = execution  # commands for it may come at once
        try:
            try:
                owned = not self._validity.is_lost(taken) and send()
            except NO_ANSWER as error:
                logs.debug(
                    f"start of job={execution.job_id} not written yet: {error}",
                    LogEvent.JOB_NOTICE,
                    job=execution.job_id,
                )
                owned = self._context.retry.until_answered(send_again)
        finally:
            if not owned:
                worker.executions.pop(execution.id, None)
        self.taken = None
        if owned:
            self.mark_prepared(execution)
        else:
            log_lost(execution.job_id)
            slot.become_idle()
        return owned

    def mark_prepared(self, execution: Execution) -> None:
        """The execution of the job in hand exists."""
        slot, fast = self._slot, self._context.fast_path
        self._worker.executions[execution.id] = execution
        if fast is None or not fast.holds(execution):
            slot.step(Phase.PREPARED)
        if not slot.alone and (kind := self._commands.hear()) is not None:
            slot.signals.want(kind, None)  # the command came before the job was in hand

    def begin_started(self) -> Any:
        """Begin the job that a step has started; its execution, or None if there is none."""
        execution, self.started = self.started, None
        if execution is not None:
            self.mark_prepared(execution)
        return execution
