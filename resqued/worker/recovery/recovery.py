"""The recovery of one dead worker.

The phase on the record decides how far the worker had come, not its exit status; Redis alone
decides whether something is left to do. Each step is a script or a transaction that watches the
execution, so it may be repeated, also by several recoveries at once. Runs in a short-lived child of
a fork server.
"""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any, Final

from rq.exceptions import NoSuchJobError
from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue
from rq.registry import StartedJobRegistry
from rq.utils import now

from resqued import descendants, linux, logs, titles
from resqued.broker.bad_data import describe_error, hashes, text_of
from resqued.broker.connection import make_connection
from resqued.broker.executions import is_open
from resqued.broker.failures import fail_execution
from resqued.broker.fencing import delete_execution, exists
from resqued.broker.hand import HANDS
from resqued.broker.outages import is_outage
from resqued.broker.owner import OWNER, RUNNING, Owner, parse_running, remove_running
from resqued.broker.queues import make_queue
from resqued.config import Config
from resqued.death import Death
from resqued.descendants import Span
from resqued.logs import LogEvent
from resqued.plugins.hooks import Hooks
from resqued.scoreboard import Order, Phase
from resqued.worker.classes import lookup
from resqued.worker.job.leftovers import log_ended
from resqued.worker.recovery.bounded_retry import TRIES, Unanswered
from resqued.worker.recovery.case import Case, RecoveryVerdict
from resqued.worker.recovery.decision import Decision
from resqued.worker.recovery.unstarted import UnstartedJob

_DESCENDANTS: Final = 1.0
"""Seconds to wait for the job's processes after SIGKILL. A stop gives recoveries two."""


class RecoveryKilled(Exception):
    """Recoveries of this job have been killed, or have died."""


def recover(config: Config, hooks: Hooks, death: Death) -> str:
    """Recover a dead worker; the verdict on its job (`RecoveryVerdict`), once Redis has it. Runs in
    a short-lived child of a fork server, which limits its time. Raises ConfigError, and what a
    user's class raises."""
    titles.recovery(death.record.name)
    lookup.inherit_log_level()
    connection = make_connection(config, f"{death.record.name}.recovery")
    case = Case(config, death, connection)
    try:
        DeadWorkerRecovery(case).run()
    except Unanswered:
        return RecoveryVerdict.UNANSWERED
    logs.info(
        f"recovered worker={death.record.name} verdict={case.verdict}", LogEvent.WORKER_NOTICE
    )
    return case.verdict


class DeadWorkerRecovery:
    """The recovery of one dead worker."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._death = case.death
        self._worker = case.worker
        self._writer = case.writer

    def run(self) -> None:
        """Raises Unanswered."""
        unstarted = UnstartedJob(self._case)
        self._attempt(unstarted.release_claim)
        self._attempt(unstarted.release_hand)
        if self._death.tries >= TRIES:
            why = RecoveryKilled(f"{self._death.tries} recoveries of it did not come to an end")
            self._attempt(lambda: self._give_up(why))
        else:
            self._attempt(self._end_executions, self._give_up)
        self._attempt(self._deregister)

    def _attempt(self, step: Any, give_up: Any = None) -> None:
        self._case.retry.attempt(step, give_up, self._worker.name)

    def _give_up(self, error: BaseException) -> None:
        """Fail the job by its ids, without loading it: nothing else has worked."""
        record = self._death.record
        reason = f"Its worker is gone, and it cannot be recovered: {describe_error(error)}"
        for job_id, execution_id in self._executions_left():
            logs.error(
                f"failed job={job_id} queue={record.queue}: {reason}",
                LogEvent.JOB_FAILED,
                job=job_id,
                queue=record.queue,
            )
            execution = Execution(execution_id, job_id, self._worker.connection, self._worker.name)
            fail_execution(
                self._worker.connection,
                self._worker.job_class,
                execution,
                record.queue,
                reason,
                self._case.event("failed", reason),
            )
            self._case.verdict = RecoveryVerdict.FAILED
            try:
                self._release_after(job_id)
            except Exception as problem:
                if is_outage(problem):
                    raise
                logs.warning(
                    f"after the failure of job={job_id}: {problem!r}",
                    LogEvent.JOB_NOTICE,
                    job=job_id,
                )

    def _release_after(self, job_id: str) -> None:
        """Release what waits for a job that cannot be read."""
        self._writer.release.free_slot_of(job_id)
        job = self._worker.job_class(
            job_id, connection=self._worker.connection, serializer=self._worker.serializer
        )
        self._writer.release.enqueue_dependents(self._queue(self._death.record.queue), job)

    def _end_executions(self) -> None:
        """Give what the worker was running its outcome."""
        for job_id, execution_id in self._executions_left():
            self._end(job_id, execution_id)

    def _deregister(self) -> None:
        """Deregister the worker, unless its name is used again. Deletes RQ's list of executions."""
        if self._case.lives or not self._has_the_name():
            return
        # The queues that it had registered for, with `*` expanded.
        names = text_of(self._worker.connection.hget(self._worker.key, "queues") or b"") or ""
        self._worker.queues = [self._queue(name) for name in names.split(",") if name]
        self._worker.register_death()
        self._worker.connection.hdel(HANDS, self._death.owner)

    def _has_the_name(self) -> bool:
        pid, owner = self._worker.connection.hmget(self._worker.key, "pid", OWNER)
        if owner is not None:
            return text_of(owner) == self._death.owner
        return pid is None or pid == str(self._death.record.pid).encode()

    def _executions_left(self) -> list[tuple[str, str]]:
        """Job and execution ids: from the record, or else from RQ's list."""
        record = self._death.record
        if record.execution_id and not record.overflow:
            return [(record.job_id, record.execution_id)]
        if record.execution_id and (found := self._long_ids()):
            return found
        if self._case.lives:
            return []  # it may have another job in hand
        rests = record.phase in (Phase.IDLE, Phase.LEFT) and not Order(record.stopped).is_final
        if rests or not self._has_the_name():
            return []
        members = filter(
            None,
            map(text_of, self._worker.connection.smembers(self._worker.executions_key)),
        )
        pairs = [member.rpartition(":")[::2] for member in members]
        return sorted(pair for pair in pairs if record.execution_id in ("", pair[1]))

    def _long_ids(self) -> list[tuple[str, str]]:
        """From RUNNING, if the job's id is too long for the record."""
        found = []
        for field, value in hashes(self._worker.connection, RUNNING)[0].items():
            job_id, _, execution_id = (text_of(field) or "").rpartition(":")
            with contextlib.suppress(ValueError):
                same = str(parse_running(value)[0]) == self._death.owner
                if same and execution_id == self._death.record.execution_id:
                    found.append((job_id, execution_id))
        return found

    def _end(self, job_id: str, execution_id: str) -> None:
        execution = Execution(execution_id, job_id, self._worker.connection, self._worker.name)
        if self._death.record.phase is Phase.TAKEN and not self._stands(execution):
            return  # put back, or never made; a job that was not begun is not loaded
        try:
            job = self._worker.job_class.fetch(
                job_id, self._worker.connection, self._worker.serializer
            )
        except NoSuchJobError:
            self._forget(execution)
            return
        queue = self._queue(job.origin or self._death.record.queue)
        if not exists(self._worker.connection, job, execution):
            if self._case.verdict is RecoveryVerdict.NOTHING:
                self._case.verdict = RecoveryVerdict.CLEAN
            delete_execution(self._worker.connection, job, execution)
            self._writer.release.release_all(job, queue)
            return
        with contextlib.suppress(ValueError):  # its hash has expired, or it was just ended
            execution.refresh()
        execution._job = job
        self._worker.executions[execution.id] = execution
        job.ended_at = now()
        self._end_descendants(job)
        Decision(self._case, job, queue, execution).carry_out()

    def _stands(self, execution: Execution) -> bool:
        registry = StartedJobRegistry(self._death.record.queue, self._worker.connection)
        key = self._worker.job_class.key_for(execution.job_id)
        return is_open(self._worker.connection, registry.key, key, execution)

    def _end_descendants(self, job: Job) -> None:
        """End the processes of the job, so that they do not run beside its next run. The worker's
        group is gone already. If the whole arbiter has died there may be no record; then Redis says
        when the job began. Only on the machine where it ran."""
        death = self._death
        try:
            owner, record = Owner.parse(death.owner), death.record
        except ValueError:  # not resqued's
            return
        if owner.machine != linux.machine() or record.phase < Phase.RUNNING:
            return
        since = record.job_ticks
        if not since and job.started_at is not None:
            since = linux.boot_ticks_at(job.started_at.timestamp())
        if since:
            if record.horse and record.horse_ticks:
                child = Span(record.horse, record.horse_ticks, since)
                log_ended(job.id, descendants.end_child(child, limit=_DESCENDANTS))
            span = Span(owner.pid, owner.ticks, since)
            log_ended(job.id, descendants.end(span, gentle=0, limit=_DESCENDANTS))

    def _forget(self, execution: Execution) -> None:
        """End the execution of a job that was deleted, or has succeeded and keeps no result."""
        registry = StartedJobRegistry(self._death.record.queue, self._worker.connection)
        stand_in: Any = SimpleNamespace(started_job_registry=registry)
        with self._worker.connection.pipeline() as pipeline:
            execution.delete(stand_in, pipeline)
            remove_running(pipeline, execution)
            pipeline.execute()
        self._writer.release.enqueue_ready()
        self._writer.release.free_slot_of(execution.job_id)
        self._case.verdict = RecoveryVerdict.CLEAN

    def _queue(self, name: str) -> Queue:
        return make_queue(self._worker, name)
