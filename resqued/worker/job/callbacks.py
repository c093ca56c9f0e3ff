"""Code of the user's around a job: callbacks, exception handlers, error trackers."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from rq.callbacks import execute_stopped_callback
from rq.executions import Execution
from rq.job import Job
from rq.timeouts import BaseDeathPenalty

from resqued import descendants, linux
from resqued.broker.stopped_callback import call_once
from resqued.logs import logger
from resqued.scoreboard import Phase
from resqued.worker.job.cuts import has_timed_out
from resqued.worker.job.trackers import tell_trackers

if TYPE_CHECKING:
    from resqued.worker.context import Context
    from resqued.worker.job.code import JobCode


class Elsewhere(Protocol):
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

    def __init__(self, context: Context, code: JobCode, elsewhere: Callable[[], Elsewhere]) -> None:
        self._context = context
        self._slot = context.slot
        self._worker = context.worker
        self._code = code
        self._elsewhere = elsewhere

    @property
    def elsewhere(self) -> Elsewhere:
        """Where jobs run that do not run in the worker."""
        return self._elsewhere()

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
        if self.elsewhere.busy:
            self.elsewhere.run(job, call, seconds)
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
