"""Call user code around a job: callbacks, exception handlers, error trackers."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, Protocol

from rq.callbacks import execute_stopped_callback
from rq.executions import Execution
from rq.job import Job
from rq.timeouts import BaseDeathPenalty
from rq.worker import BaseWorker

from resqued import descendants, linux, logs
from resqued.broker.outages import RetryPolicy
from resqued.broker.wire import read_script
from resqued.logs import LogEvent
from resqued.scoreboard import Phase
from resqued.worker.job.functions import function_of
from resqued.worker.job.interruptions import has_timed_out

if TYPE_CHECKING:
    from resqued.worker.context import Context
    from resqued.worker.job.user_code import UserCode

_BEGUN: Final = "stopped_callback"
"""Field of an execution's hash: which call has begun the stopped callback."""

_BEGIN: Final = read_script("begin_callback")
_SILENT: Final = logging.getLogger("resqued.silent")
_SILENT.disabled = True


class ChildRunner(Protocol):
    """Runs jobs in children of the worker."""

    busy: bool
    """Whether the job in hand runs in a child."""

    def run(self, job: Job, call: Callable[[], object], seconds: float) -> None:
        """Run code of the job in hand in a new child, at most so many seconds. Never raises."""

    def note_outcome(self, status: str, seconds: float) -> None:
        """The job in hand has its outcome, after so many seconds."""


class Callbacks:
    """Calls the user code around one worker's jobs. Runs in the worker's main thread."""

    def __init__(
        self, context: Context, code: UserCode, child_runner: Callable[[], ChildRunner]
    ) -> None:
        self._context = context
        self._slot = context.slot
        self._worker = context.worker
        self._code = code
        self._child_runner = child_runner

    @property
    def child_runner(self) -> ChildRunner:
        """Runs jobs in children."""
        return self._child_runner()

    def call(self, job: Job, call: Callable[[], object], seconds: float = 0) -> None:
        """Call a callback or an exception handler, which stop-job and kill-horse cut like the job
        itself. seconds: that it may take. Raises what it raises, and the cut."""
        slot, began, timed_out = self._slot, linux.boot_ticks(), False
        slot.step(Phase.RUNNING, limit=slot.turn_limit + max(0.0, seconds))
        try:
            with self._code.lend(job):
                slot.signals.commandable(call)
        except BaseException as error:
            timed_out = has_timed_out(error)
            raise
        finally:
            if os.getpid() != slot.pid:
                os._exit(0)
            slot.signals.install()
            slot.boundary.regain()
            slot.step(Phase.RETURNED)
            if timed_out:
                self.end_descendants(job, began)

    def end_descendants(self, job: Job, since: int) -> None:
        """End the processes of a job or callback that was cut, before its outcome."""
        self._context.retry.allow(descendants.LIMIT)
        self._slot.leftovers.end(job.id, since)

    def report_killed(self, job: Job, pid: int, status: int, rusage: Any) -> None:
        """Call `handle_work_horse_killed`, as RQ does for a dead horse. Never raises."""
        try:
            self._worker.handle_work_horse_killed(job, pid, status, rusage)
        except Exception:  # the user's
            logs.exception(
                f"handle_work_horse_killed of job={job.id} failed", LogEvent.JOB_NOTICE, job=job.id
            )

    def call_stopped(self, job: Job, execution: Execution) -> None:
        """Call the stopped callback, unless another process has begun it. Raises redis errors."""
        call_once(job, execution, self._context.retry, self._run_stopped)

    def report_to_trackers(self, job: Job, text: str) -> None:
        """Report a job to error trackers that has failed without raising. Never raises."""
        self._run_in_job_process(
            job, functools.partial(report_to_trackers, self._worker, job, text), 0
        )

    def _run_stopped(self, job: Job) -> None:
        penalty = self._worker.death_penalty_class
        call = functools.partial(call_stopped_callback, job, penalty, self._code.lend)
        self._run_in_job_process(job, call, job.stopped_callback_timeout)

    def _run_in_job_process(self, job: Job, call: Callable[[], object], seconds: float) -> None:
        """Run user code of a job: in a new child, if the job ran in one."""
        if self.child_runner.busy:
            self.child_runner.run(job, call, seconds)
        else:
            call()


def call_stopped_callback(
    job: Job,
    penalty: type[BaseDeathPenalty],
    lend: Callable[[Job], AbstractContextManager[object]] = contextlib.nullcontext,
) -> None:
    """Call the stopped callback within its time limit. Never raises. lend: gives the job the
    connection for user code."""
    try:
        with lend(job):
            execute_stopped_callback(job, penalty)
    except BaseException:
        logs.exception(f"stopped callback of job={job.id} failed", LogEvent.JOB_NOTICE, job=job.id)


def call_once(
    job: Job, execution: Execution, retry: RetryPolicy, run: Callable[[Job], None]
) -> None:
    """Have `run` call the stopped callback of a job, if it has one and no process has begun it.

    The beginning is noted in the execution's hash in Redis, which the outcome deletes: so if a
    process dies in the callback, a recovery does not call it again. Waits until Redis has answered.
    Raises what `run` does.
    """
    if not job._stopped_callback_name:
        return
    call = StoppedCallbackClaim(job.connection, execution)
    if not retry.until_answered(call.claim):
        logs.warning(
            f"stopped callback of job={job.id} not called again: it had begun",
            LogEvent.JOB_NOTICE,
            job=job.id,
        )
        return
    retry.allow(max(0.0, job.stopped_callback_timeout))
    run(job)
    retry.turn()


class StoppedCallbackClaim:
    """One attempt to begin the stopped callback."""

    def __init__(self, connection: Any, execution: Execution) -> None:
        self._begin = connection.register_script(_BEGIN)
        self._key = execution.key
        self._call = f"{os.getpid()} {time.time_ns()}"

    def claim(self) -> bool:
        """Whether this attempt may call it; then no other may. Repeatable. Raises redis errors."""
        return bool(self._begin(keys=[self._key], args=[_BEGUN, self._call]))


class JobKilled(Exception):
    """The exception that error trackers are shown for a killed job. It is never raised."""


def report_to_trackers(worker: BaseWorker, job: Job, reason: str) -> None:
    """Report a job that has just been recorded as failed, once. Never raises.

    Trackers replace `rq.Worker.handle_exception` (Sentry), which RQ calls with what a job raises; a
    job whose process was killed raises nothing, and would not be reported. Runs in the worker, or
    in the recovery of a dead one. The user's exception handlers are not called: RQ does not call
    them for a killed job. reason: the text of the failure.
    """
    handlers, log = worker._exc_handlers, worker.log
    worker._exc_handlers, worker.log = [], _SILENT  # RQ would log an empty traceback
    try:
        text = f"{function_of(job)}: {' '.join(reason.split())}"
        worker.handle_exception(job, JobKilled, JobKilled(text), None)
    except Exception as error:
        logs.warning(
            f"job={job.id} not shown to error trackers: {type(error).__name__}: {error}",
            LogEvent.JOB_NOTICE,
            job=job.id,
        )
    finally:
        worker._exc_handlers, worker.log = handlers, log
