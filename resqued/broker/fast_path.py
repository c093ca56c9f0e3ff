"""The fast path: one script per job (`step.lua`) ends a job and starts the next.

It handles the usual case. All else goes through RQ's own transactions: a job that the script cannot
start is claimed by `claims`, and an outcome that it cannot write is written by `outcome_writer`.
These keep the worker's hand (see `hand`) up to date.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from redis.exceptions import NoPermissionError, ResponseError
from rq.defaults import RQ_KEY_PREFIX
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.queue import Queue

from resqued import linux, logs
from resqued.broker.bad_data import is_data_error, set_aside
from resqued.broker.fencing import OutcomeRefused, in_one_transaction
from resqued.broker.hand import GIVE_BACK, HANDS, RUNNING, STEP, Bounds, Hand, StepResult
from resqued.broker.job_hash import COUNTERS, JobReader, is_complete
from resqued.broker.limits import QueueLimits
from resqued.broker.outages import NO_ANSWER, Outage, RetryPolicy
from resqued.broker.outcome import Ending, Recorded, Successes, is_known
from resqued.broker.pipeline import Commands, StepClient
from resqued.broker.story import StoryEvent
from resqued.broker.wire import Wire
from resqued.logs import LogEvent

_HUNG_UP: Final = 3
"""How often Redis may close the connection on an outcome, while it answers a PING: as it does when
the outcome is too large."""


class _Unfit(Exception):
    """The script does not write this outcome, and has changed nothing."""


class StepHost(Protocol):
    """What the fast path needs of the worker around it."""

    def record_token(self, token: str) -> None:
        """Put a step's token on the worker's record; called before the step is sent."""

    def note_heartbeat(self) -> None:
        """A step has written an outcome, and with it a heartbeat."""

    def next_queues(self) -> list[Queue]:
        """The queues from which a step may take a job; may be empty. Neither blocks nor fails."""

    def drop_stray(self, job_id: str, execution_id: str) -> None:
        """Put back a job that Redis, restored to an older state, says this worker runs, and that it
        does not. Raises redis errors."""


class FastPath:
    """The fast path of one worker, in its main thread. worker: RQ's. owner: `str(Owner)`."""

    def __init__(
        self,
        worker: Any,
        owner: str,
        bounds: Bounds,
        retry: RetryPolicy,
        host: StepHost,
        limits: QueueLimits,
    ) -> None:
        self._worker = worker
        self._connection = worker.connection
        self._owner = owner
        self._retry = retry
        self._host = host
        wire = Wire(worker.connection, STEP)
        self.hand = Hand(
            wire, owner, worker.name, worker.key, worker.executions_key, bounds, limits
        )
        self.writes = False
        """Whether the script is writing an outcome now."""
        self._give_back = worker.connection.register_script(GIVE_BACK)
        self._held = ""  # the execution that the last step has started
        self.has_next = False
        """Whether the next job is started already: nothing slow may run before it."""
        self._next: StepResult | None = None  # the step that has started it
        self._found: StepResult | None = None  # ended a job just now, and found no other
        self.sent_at = 0.0
        """When the last step was sent, on the clock that includes suspended time."""
        self._jobs = JobReader(worker.job_class, worker.connection, worker.serializer)
        self._successes: Successes | None = None
        if is_known(worker.job_class):
            self._successes = Successes(worker.default_result_ttl, bounds.longest)
        self._before: dict[str, Any] | None = None  # the job as loaded, if complete
        self._counted = False
        self._in_rqs_way = False  # whether the next job is claimed in RQ's way
        self._forbidden = False

    def register(self) -> None:
        """Create the worker's hand, before the worker registers. Raises redis errors."""
        connection = self._connection
        try:
            self.hand.register(connection)
        except ResponseError as error:
            if not is_data_error(error):
                raise
            set_aside(connection, HANDS)  # or another process has
            self.hand.register(connection)

    # Taking.

    def take(self, queues: Sequence[Queue], *, again: bool = True) -> StepResult | None:
        """The next job, started; None: it must be claimed in RQ's way. After a redis error it may
        have been started: call again. again: look also if the last step has just ended a job and
        found no other."""
        found, self._found = self._found, None
        if (step := self._next) is not None:
            self._next, self.has_next, self._held = None, False, step.execution_id
            return step
        if found is not None and not again:
            return found
        if self._in_rqs_way or self._forbidden:
            self._in_rqs_way = False
            return None
        try:
            step = self._ask([queue.key for queue in queues])
        except NoPermissionError as error:
            logs.warning(
                f"redis forbids what one script a job needs, so RQ's way it is: {error}",
                LogEvent.REDIS_NOTICE,
            )
            self._forbidden = True
            return None
        except ResponseError as error:
            if not _is_for_good(error):
                raise
            set_aside(self._connection, HANDS)
            self._put_back(self.hand.token, dead=False)  # what it may have started in part
            return None
        match step.what:
            case "job":
                self._held = step.execution_id
            case "unusual":
                return None
            case "unknown":
                logs.warning(
                    "redis does not know this worker's hand; registered again",
                    LogEvent.WORKER_NOTICE,
                )
                self._connection.hsetnx(HANDS, self._owner, "0 -0")
            case "other":
                self._drop(step)
        return step

    def _ask(self, queues: Sequence[str], ending: Ending | None = None) -> StepResult:
        self._host.record_token(self.hand.make_token())
        self.sent_at = linux.boot_clock()
        return self.hand.step(queues, ending)

    def _drop(self, step: StepResult) -> None:
        """Put back a job that Redis, restored to an older state, says this worker runs."""
        self._host.drop_stray(step.job_id, step.execution_id)
        with self._connection.pipeline() as pipeline:
            self.hand.free(pipeline)
            pipeline.execute()

    def read(self, step: StepResult, queue: Queue) -> Job:
        """Load the job that a step has started. Raises whatever a malformed hash leads to."""
        job = self._jobs.read(step.job_id, step.hash)
        job.origin = job.origin or queue.name
        job._status, job.worker_name = JobStatus.STARTED, self._worker.name
        job.started_at = job.last_heartbeat = step.at
        job.redis_server_version = self._worker.get_redis_server_version()
        self._before = dict(vars(job)) if is_complete(step.hash) else None
        self._counted = not COUNTERS.isdisjoint(step.hash)
        return job

    def execution_of(self, step: StepResult) -> Execution:
        """The execution that a step has made."""
        execution = Execution.__new__(Execution)
        execution.id, execution.job_id = step.execution_id, step.job_id
        execution.connection, execution.worker_name = self._connection, self._worker.name
        execution.created_at = execution.last_heartbeat = step.at
        execution._job = None
        return execution

    def give_back(self, event: StoryEvent | None = None) -> str:
        """Put the job that the last step has started, and that has not begun, back to the front of
        its queue, without loading it; its id, or an empty text. The next job is then claimed in
        RQ's way. event: for its story. Raises redis errors."""
        self._in_rqs_way = True
        return self._put_back(self._held, dead=False, event=event)

    def close(self, event: StoryEvent | None = None) -> str:
        """Delete the hand, and put back what the last step may have started; its id, or an empty
        text. Late copies of steps do nothing from then on. Raises redis errors."""
        return self._put_back("", dead=True, event=event)

    def _put_back(self, execution_id: str, *, dead: bool, event: StoryEvent | None = None) -> str:
        told = event.as_argument() if event else ""
        what, *rest = self._give_back(
            keys=[HANDS, RUNNING, self._worker.executions_key],
            args=[self._owner, execution_id, RQ_KEY_PREFIX, "", 0, int(dead), told],
        )
        self._held, self._next, self.has_next = "", None, False
        return rest[0].decode() if what == b"back" else ""

    # Ending.

    def holds(self, execution: Execution) -> bool:
        """Whether a step has started this execution, so that the hand names it."""
        return bool(self._held) and execution.id == self._held

    def finish(self, job: Job, execution: Execution) -> bool | None:
        """Write a plain success. False: it must be written in RQ's way; None: by `write`. In both
        cases nothing was done."""
        if self._before is None or self._successes is None or self._forbidden:
            return None
        ending = self._successes.make(job, execution, self._before, self._counted)
        if ending is None:
            return None
        try:
            self._send(ending)
        except _Unfit as error:
            logs.debug(f"outcome of job={job.id} in RQ's way: {error}")
            return False
        self._held = ""
        self._worker.executions.pop(execution.id, None)
        return True

    def write(
        self,
        job: Job,
        execution: Execution,
        attempt: Callable[[], None],
        follow_up: Callable[[], None],
    ) -> bool:
        """Write the outcome that RQ's code, called by `attempt`, produces. False: it must be
        written in RQ's way, and nothing was done. follow_up: does what comes after the
        transaction."""
        worker, before = self._worker, dict(vars(job))
        connection = worker.connection
        sent: list[bool] = []

        def send(commands: Commands) -> None:
            self._send(Recorded(execution.id, job.id, job.origin, commands))
            sent.append(True)

        if job.has_rate_limit or self._forbidden:
            return False
        worker.connection = StepClient(connection, send)
        self.writes = True
        error: BaseException
        try:
            with in_one_transaction(job):
                attempt()
            self._held = ""
            return True
        except OutcomeRefused as refused:
            error = refused.error
        except Exception as problem:
            error = problem
        finally:
            worker.connection = connection
            self.writes = False
        if sent:  # only what comes after the transaction has failed
            self._held = ""
            self._retry.until_answered(follow_up)
            return True
        logs.debug(f"outcome of job={job.id} in RQ's way: {error}")
        vars(job).clear()
        vars(job).update(before)
        worker.executions[execution.id] = execution
        return False

    def _send(self, ending: Ending) -> None:
        """Send an ending until Redis answers; this may start the next job too. Raises _Unfit."""
        outage: Outage | None = None
        queues = [queue.key for queue in self._host.next_queues()]
        hung_up = 0
        while True:
            try:
                step = self._ask(queues, ending)
            except NO_ANSWER as error:
                if _is_for_good(error):
                    raise _Unfit(str(error)) from error
                self._retry.turn()
                outage = outage or self._retry.outage()
                outage.wait(error)
                hung_up += self._answers()
                if hung_up == _HUNG_UP:
                    raise _Unfit(f"redis answers, but not to this: {error}") from error
            else:
                if outage is not None:
                    outage.over()
                break
        if step.ended != "written":
            raise _Unfit(step.why or step.what)
        self._host.note_heartbeat()
        self._in_rqs_way = step.what == "unusual"
        self.has_next = step.what == "job"
        self._next = step if self.has_next else None
        self._found = step if step.what == "none" and queues else None

    def _answers(self) -> bool:
        with contextlib.suppress(*NO_ANSWER):
            return bool(self._connection.ping())
        return False


def _is_for_good(error: Exception) -> bool:
    """Whether Redis refuses a step because of stored data or missing rights, and would again. For
    errors that pass (BUSY, LOADING, OOM, READONLY ...) redis-py has classes of their own."""
    return type(error) is ResponseError or isinstance(error, NoPermissionError)
