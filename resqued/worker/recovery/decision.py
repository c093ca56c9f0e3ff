"""Decide which outcome the job of a dead worker gets, write it and report it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue

from resqued import logs
from resqued.broker.fencing import DEATHS, INTERRUPTIONS, read_counter
from resqued.logs import LogEvent
from resqued.scoreboard import Order, Phase
from resqued.worker.job.callbacks import call_once, call_stopped_callback, report_to_trackers
from resqued.worker.job.interruptions import NO_REASON
from resqued.worker.job.lines import Again
from resqued.worker.recovery.case import RecoveryVerdict

if TYPE_CHECKING:
    from resqued.worker.recovery.case import Case


class Decision:
    """The decision on one execution without an outcome."""

    def __init__(self, case: Case, job: Job, queue: Queue, execution: Execution) -> None:
        self._case = case
        self._config = case.config
        self._death = case.death
        self._worker = case.worker
        self._writer = case.writer
        self._job = job
        self._queue = queue
        self._execution = execution

    def carry_out(self) -> None:
        record, config = self._death.record, self._config
        begun = record.phase is not Phase.TAKEN
        if record.stopped == Order.STOP:
            written = self._stop()
            self._case.verdict = RecoveryVerdict.FAILED if written else RecoveryVerdict.CLEAN
        elif record.stopped == Order.FAIL:
            self._job.retries_left = None
            self._fail(self._death.failure or NO_REASON, self._death.failure or NO_REASON)
        elif not begun:
            self._requeue(None, 0)
        elif record.stopped == Order.KILL:
            self._die()
        elif self._death.interrupted:
            counter = INTERRUPTIONS if record.phase >= Phase.RUNNING else None
            if not self._requeue(counter, config.max_interruptions):
                self._job.retries_left = None
                limit = config.max_interruptions
                text = f"Interrupted {limit + 1} times by stops of its worker; the limit is {limit}"
                if self._death.reason:
                    text += f"; the last time: {self._death.reason}"
                self._fail(text, text)
        elif config.on_worker_death != "requeue" or not self._requeue(
            DEATHS, config.max_deaths - 1
        ):
            self._die()

    def _requeue(self, counter: str | None, limit: int) -> bool:
        self._case.tell(self._execution, "put_back")
        done = self._writer.put_back(self._job, self._queue, self._execution, counter, limit)
        if done:
            logs.info(
                f"put back job={self._job.id} queue={self._queue.name}",
                LogEvent.JOB_PUT_BACK,
                job=self._job.id,
                queue=self._queue.name,
            )
            self._case.verdict = RecoveryVerdict.REQUEUED
        return done

    def _die(self) -> None:
        """The end of Worker.monitor_work_horse: a job whose process died."""
        death = self._death
        deaths = 1 + read_counter(self._worker.connection.hget(self._job.key, DEATHS))
        status, signalled = death.status, os.WIFSIGNALED(death.status)
        signal_text = f" (signal {os.WTERMSIG(status)})" if signalled else ""
        text = f"Work-horse terminated unexpectedly; waitpid returned {status}{signal_text}; "
        text += death.reason
        if deaths >= self._config.max_deaths:
            self._job.retries_left = None
            text += f"\nIt has killed its worker {deaths} times, which is the limit."
        self._case.writer.deaths = deaths
        try:
            self._worker.handle_work_horse_killed(self._job, death.record.pid, status, death.rusage)
        except Exception:  # of the user's
            logs.exception(
                f"handle_work_horse_killed of job={self._job.id} failed",
                LogEvent.JOB_NOTICE,
                job=self._job.id,
            )
        self._fail(text)
        self._case.writer.deaths = 0

    def _fail(self, text: str, why: str = "") -> None:
        retried, again = self._job.should_retry, Again.of(self._job)
        verdict = RecoveryVerdict.RETRIED if retried else RecoveryVerdict.FAILED
        left = (self._job.retries_left or 0) - 1
        self._case.tell(self._execution, verdict.value, why, left)
        written = self._writer.write_failure(self._job, self._queue, self._execution, text)
        self._case.verdict = verdict if written else RecoveryVerdict.CLEAN
        if written:
            self._log(verdict, " ".join(text.split()).rstrip(";"), again)
        if written and verdict == RecoveryVerdict.FAILED:
            report_to_trackers(self._worker, self._job, text)

    def _log(self, verdict: RecoveryVerdict, reason: str, again: Again | None) -> None:
        """INFO: the death has a WARNING of the arbiter's."""
        function = self._death.record.function
        line = f"{verdict} job={self._job.id} queue={self._queue.name} function={function}"
        failed = verdict == RecoveryVerdict.FAILED
        logs.info(
            f"{line}: {reason}" + (f"; {again}" if again else ""),
            LogEvent.JOB_FAILED if failed else LogEvent.JOB_RETRIED,
            job=self._job.id,
            queue=self._queue.name,
            function=function or None,
            outcome=str(verdict),
            reason=reason,
            **(again.fields() if again else {}),
        )

    def _stop(self) -> bool:
        """A command has stopped it. False: another process has ended the execution before."""
        worker = self._worker
        self._case.tell(self._execution, "stopped", "a stop command; it was killed")
        call_once(
            self._job,
            self._execution,
            self._case.retry,
            lambda job: call_stopped_callback(job, worker.death_penalty_class),
        )
        return self._writer.write_stopped(self._job, self._queue, self._execution)
