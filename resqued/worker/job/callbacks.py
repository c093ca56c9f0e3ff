"""Code of the user's around a job: callbacks, exception handlers, error trackers."""

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

from resqued import descendants, linux
from resqued.broker.outages import RetryPolicy
from resqued.broker.wire import read_script
from resqued.logs import logger
from resqued.scoreboard import Phase
from resqued.worker.job.functions import function_of
from resqued.worker.job.interruptions import has_timed_out

if TYPE_CHECKING:
    from resqued.worker.context import Context
    from resqued.worker.job.user_code import JobCode


class ChildRunner(Protocol):
    """Where a job runs that does not run in the worker: in a child, if `busy`."""

    busy: bool
    """The job in hand runs in a child."""

    def run(self, job: Job, call: Callable[[], object], seconds: float) -> None:
        """Run what belongs to the job in hand in a fresh child; it may take so many seconds. Never
        raises."""

    def done(self, status: str, seconds: float) -> None:
        """The job in hand has its outcome, after so many seconds."""


class Callbacks:
    """One worker's. Lives in the worker, in its main thread."""

    def __init__(
        self, context: Context, code: JobCode, child_runner: Callable[[], ChildRunner]
    ) -> None:
        self._context = context
        self._slot = context.slot
        self._worker = context.worker
        self._code = code
        self._child_runner = child_runner

    @property
    def child_runner(self) -> ChildRunner:
        """Where jobs run that do not run in the worker."""
        return self._child_runner()

    def call(self, job: Job, call: Callable[[], object], seconds: float = 0) -> None:
        """Run a callback or an exception handler, which stop-job and kill-horse cut as they do the
        job itself. seconds: that it may take. Raises what it raises, and the cut.
        """
        slot, began, timed_out = self._slot, linux.boot_ticks(), False
        slot.step(Phase.RUNNING, patience=slot.patience + max(0.0, seconds))
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
        """Of a job, or a callback, that was cut. Before its outcome: it may be run again."""
        self._context.retry.allow(descendants.LIMIT)
        self._slot.leftovers.end(job.id, since)

    def tell_killed(self, job: Job, pid: int, status: int, rusage: Any) -> None:
        """Call `handle_work_horse_killed`, as RQ does for a dead horse. Never raises."""
        try:
            self._worker.handle_work_horse_killed(job, pid, status, rusage)
        except Exception:  # the user's
            logger.exception(f"handle_work_horse_killed of job={job.id} failed")

    def call_stopped(self, job: Job, execution: Execution) -> None:
        """Call the stopped callback, once over all who try. Raises redis errors."""
        call_once(job, execution, self._context.retry, self._run_stopped)

    def tell_trackers(self, job: Job, text: str) -> None:
        """Show error trackers a job that has failed without raising: text. Never raises."""
        self._in_its_process(job, functools.partial(tell_trackers, self._worker, job, text), 0)

    def _run_stopped(self, job: Job) -> None:
        penalty = self._worker.death_penalty_class
        call = functools.partial(call_stopped_callback, job, penalty, self._code.lend)
        self._in_its_process(job, call, job.stopped_callback_timeout)

    def _in_its_process(self, job: Job, call: Callable[[], object], seconds: float) -> None:
        """Code of the user's that belongs to a job: in a fresh child, if the job ran in one."""
        if self.child_runner.busy:
            self.child_runner.run(job, call, seconds)
        else:
            call()


def call_stopped_callback(
    job: Job,
    penalty: type[BaseDeathPenalty],
    lend: Callable[[Job], AbstractContextManager[object]] = contextlib.nullcontext,
) -> None:
    """Call it within its time. Never raises. lend: gives the job what code of the user's is to
    have of it."""
    try:
        with lend(job):
            execute_stopped_callback(job, penalty)
    except BaseException:
        logger.exception(f"stopped callback of job={job.id} failed")


_BEGUN: Final = "stopped_callback"
"""Field of an execution's hash: which call has begun the callback."""

_BEGIN: Final = read_script("begin_callback")


def call_once(
    job: Job, execution: Execution, retry: RetryPolicy, run: Callable[[Job], None]
) -> None:
    """Have `run` call the stopped callback of a job, if it has one and nobody has begun it. Waits
    until Redis has answered. Raises what `run` does."""
    if not job._stopped_callback_name:
        return
    call = Call(job.connection, execution)
    if not retry.until_answered(call.is_ours):
        logger.warning(f"stopped callback of job={job.id} not called again: it had begun")
        return
    retry.allow(max(0.0, job.stopped_callback_timeout))
    run(job)
    retry.turn()


class Call:
    """One attempt to be the one that calls it."""

    def __init__(self, connection: Any, execution: Execution) -> None:
        self._begin = connection.register_script(_BEGIN)
        self._key = execution.key
        self._call = f"{os.getpid()} {time.time_ns()}"

    def is_ours(self) -> bool:
        """Whether nobody else has begun it; from here on nobody else will. May be asked again.

        Raises redis errors.
        """
        return bool(self._begin(keys=[self._key], args=[_BEGUN, self._call]))


_SILENT: Final = logging.getLogger("resqued.silent")
_SILENT.disabled = True


class JobKilled(Exception):
    """What a tracker is shown of a job that was killed. Nobody raises it."""


def tell_trackers(worker: BaseWorker, job: Job, reason: str) -> None:
    """Show them a job that has just been recorded as failed, once. Never raises.

    Runs in the worker, or in the recovery of one that has died. The user's exception handlers
    are not called: RQ does not call them for a job that was killed. reason: the job's failure.
    """
    handlers, log = worker._exc_handlers, worker.log
    worker._exc_handlers, worker.log = [], _SILENT  # RQ would log a traceback that there is not
    try:
        text = f"{function_of(job)}: {' '.join(reason.split())}"
        worker.handle_exception(job, JobKilled, JobKilled(text), None)
    except Exception as error:
        logger.warning(f"job={job.id} not shown to error trackers: {type(error).__name__}: {error}")
    finally:
        worker._exc_handlers, worker.log = handlers, log
