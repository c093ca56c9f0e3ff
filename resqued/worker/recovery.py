"""Putting right in Redis what a dead worker left behind: its job, and its entry in RQ.

The record's phase says how far the worker had come, never its exit status; whether something
is still to be done, Redis alone. Each step is a script or a transaction that watches the
execution, so it does not matter how often, or by how many at once, it is tried.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Final

from redis.client import Pipeline
from rq.exceptions import NoSuchJobError
from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue
from rq.rate_limit import RateLimitRegistry
from rq.registry import StartedJobRegistry
from rq.utils import as_text, now, parse_composite_key

from resqued import descendants, linux, titles
from resqued.config import Config
from resqued.descendants import Span
from resqued.logs import logger
from resqued.plugins.hooks import Hooks
from resqued.scoreboard import Order, Phase
from resqued.worker import connecting
from resqued.worker.boot import Death
from resqued.worker.burying import bury
from resqued.worker.connecting import Outage
from resqued.worker.guarding import DEATHS, INTERRUPTIONS, exists
from resqued.worker.leftovers import tell
from resqued.worker.owning import Owner, leave
from resqued.worker.taking import REST, Taker
from resqued.worker.writing import Writing

_DESCENDANTS: Final = 1.0
"""Seconds that a recovery waits for what the job has started, after SIGKILL. A stop waits for two
seconds for recoveries."""

NOTHING, CLEAN, REQUEUED, RETRIED, FAILED = "nothing", "clean", "requeued", "retried", "failed"


def recover(config: Config, hooks: Hooks, death: Death) -> str:
    """The verdict on a dead worker's job; returns when Redis has taken it.

    requeued: at the front of its queue again. retried, failed: as RQ does with a killed horse.
    clean: its outcome had been written. nothing: it had none.
    Runs in a short-lived child of a fork server, which bounds it. Raises ConfigError, and what
    a user's class raises.
    """
    titles.recovery(death.record.name)
    connecting.inherit_log_level()
    connection = connecting.make_connection(config, f"{death.record.name}.recovery")
    undertaker = Undertaker(
        [name for name in death.queues if name != REST],
        name=death.record.name,
        connection=connection,
        job_class=connecting.job_class(config),
        queue_class=connecting.queue_class(config),
        serializer=config.serializer,
        exception_handlers=connecting.exception_handlers(config),
        disable_default_exception_handler=config.disable_default_exception_handler,
        prepare_for_work=False,
    )
    undertaker._resqued_config, undertaker._resqued_death = config, death
    undertaker.death_penalty_class = connecting.worker_class(config).death_penalty_class
    for step in (
        undertaker._resqued_release_claim,
        undertaker._resqued_end_executions,
        undertaker._resqued_deregister,
    ):
        undertaker._resqued_until_answered(step)
    logger.info(f"recovered worker={death.record.name} verdict={undertaker._resqued_verdict}")
    return undertaker._resqued_verdict


class Undertaker(Writing):
    """The dead worker, as far as RQ's code needs one."""

    _resqued_config: Config
    _resqued_death: Death
    _resqued_verdict = NOTHING
    _resqued_dying = False

    def _set_connection(self, connection: Any) -> Any:
        return connection  # RQ would give each command as long as a blocking pop

    def _resqued_outage(self) -> Outage:
        return Outage(self._resqued_config)

    def _resqued_release_claim(self) -> None:
        """What it had taken and not begun goes back to the front."""
        record = self._resqued_death.record
        jobs = self.job_class.redis_job_namespace_prefix
        taker = Taker(self.connection, self._resqued_death.owner, jobs)
        if record.phase is Phase.TAKEN and not self._resqued_death.interrupted:
            job_id = self._resqued_release_deadly(taker)
        else:
            job_id = taker.put_back()
        if job_id:
            logger.info(f"put back job={job_id}: it had not begun")
            self._resqued_verdict = REQUEUED

    def _resqued_release_deadly(self, taker: Taker) -> str | None:
        """It may have died of what it had taken, while it read it: so it is not read here.

        The id of what was put back; at the last death it is failed instead.
        """
        limit = self._resqued_config.max_deaths
        found = taker.put_back_after_death(limit)
        if found is None:
            return None
        taken, last = found
        if not last:
            return taken.job_id
        queue = self._resqued_death.record.queue
        reason = f"It has killed its worker {limit} times before it began, which is the limit."
        logger.error(f"failed job={taken.job_id} queue={queue}: {reason}")
        bury(taker, taken, self.job_class, queue, reason)
        self._resqued_verdict = FAILED
        return None

    def _resqued_end_executions(self) -> None:
        """What it was running gets its outcome."""
        for job_id, execution_id in self._resqued_executions_left():
            self._resqued_end(job_id, execution_id)

    def _resqued_deregister(self) -> None:
        """Last, since it drops RQ's list of the executions. Not when the name is used again."""
        if not self._resqued_has_the_name():
            return
        # What it had registered for in the end, `*` included.
        names = as_text(self.connection.hget(self.key, "queues") or b"")
        self.queues = [self._resqued_queue(name) for name in names.split(",") if name]
        self.register_death()

    def _resqued_has_the_name(self) -> bool:
        pid = self.connection.hget(self.key, "pid")
        return pid is None or int(pid) == self._resqued_death.record.pid

    def _resqued_executions_left(self) -> list[tuple[str, str]]:
        """Job and execution ids. The record names one; where it does not, RQ's list does."""
        record = self._resqued_death.record
        if record.execution_id and not record.overflow:
            return [(record.job_id, record.execution_id)]
        if record.phase in (Phase.IDLE, Phase.LEFT) or not self._resqued_has_the_name():
            return []
        members = map(as_text, self.connection.smembers(self.executions_key))
        pairs = [parse_composite_key(member) for member in members]
        return [pair for pair in pairs if record.execution_id in ("", pair[1])]

    def _resqued_end(self, job_id: str, execution_id: str) -> None:
        execution = Execution(execution_id, job_id, self.connection, self.name)
        try:
            job = self.job_class.fetch(job_id, self.connection, self.serializer)
        except NoSuchJobError:
            self._resqued_forget(execution)
            return
        queue = self._resqued_queue(job.origin or self._resqued_death.record.queue)
        if not exists(self.connection, job, execution):
            if self._resqued_verdict is NOTHING:
                self._resqued_verdict = CLEAN
            leave(self.connection, execution)
            self._resqued_follow_up(job, queue)
            return
        with contextlib.suppress(ValueError):  # its hash has expired, or another has just ended it
            execution.refresh()
        execution._job = job
        self.executions[execution.id] = execution
        job.ended_at = now()
        self._resqued_end_descendants(job)
        self._resqued_decide(job, queue, execution)

    def _resqued_end_descendants(self, job: Job) -> None:
        """What the job has started does not run on beside its next run.

        Its worker's group is gone. Who dies with its whole arbiter may have left no record: then
        Redis says when the job began. Only on the machine where it ran.
        """
        death = self._resqued_death
        try:
            owner, record = Owner.parse(death.owner), death.record
        except ValueError:  # of something else than us
            return
        if owner.machine != linux.machine() or record.phase < Phase.RUNNING:
            return
        since = record.job_ticks
        if not since and job.started_at is not None:
            since = linux.boot_ticks_at(job.started_at.timestamp())
        if since:
            span = Span(owner.pid, owner.ticks, since)
            tell(job.id, descendants.end(span, gentle=0, limit=_DESCENDANTS))

    def _resqued_decide(self, job: Job, queue: Queue, execution: Execution) -> None:
        record, config = self._resqued_death.record, self._resqued_config
        begun = record.phase is not Phase.TAKEN
        if record.stopped == Order.STOP:
            ours = self._resqued_write_stopped(job, queue, execution)
            self._resqued_verdict = FAILED if ours else CLEAN
        elif not begun:
            self._resqued_requeue(job, queue, execution, None, 0)
        elif record.stopped == Order.KILL:
            self._resqued_die(job, queue, execution)
        elif self._resqued_death.interrupted:
            counter = INTERRUPTIONS if record.phase >= Phase.RUNNING else None
            if not self._resqued_requeue(job, queue, execution, counter, config.max_interruptions):
                job.retries_left = None
                limit = config.max_interruptions
                text = f"Interrupted {limit + 1} times by stops of its worker; the limit is {limit}"
                self._resqued_fail(job, queue, execution, text)
        elif config.on_worker_death != "requeue" or not self._resqued_requeue(
            job, queue, execution, DEATHS, config.max_deaths - 1
        ):
            self._resqued_die(job, queue, execution)

    def _resqued_requeue(
        self, job: Job, queue: Queue, execution: Execution, counter: str | None, limit: int
    ) -> bool:
        done = self._resqued_put_back(job, queue, execution, counter, limit)
        if done:
            logger.info(f"put back job={job.id} queue={queue.name}")
            self._resqued_verdict = REQUEUED
        return done

    def _resqued_die(self, job: Job, queue: Queue, execution: Execution) -> None:
        """The tail of Worker.monitor_work_horse: a job whose process died without a word."""
        death = self._resqued_death
        deaths = int(self.connection.hget(job.key, DEATHS) or 0) + 1
        status, signalled = death.status, os.WIFSIGNALED(death.status)
        signal_text = f" (signal {os.WTERMSIG(status)})" if signalled else ""
        text = f"Work-horse terminated unexpectedly; waitpid returned {status}{signal_text}; "
        text += death.reason
        if deaths >= self._resqued_config.max_deaths:
            job.retries_left = None
            text += f"\nIt has killed its worker {deaths} times, which is the limit."
        self._resqued_dying = True
        self.handle_work_horse_killed(job, death.record.pid, status, death.rusage)
        self._resqued_fail(job, queue, execution, text)
        self._resqued_dying = False

    def _resqued_fail(self, job: Job, queue: Queue, execution: Execution, text: str) -> None:
        verdict = RETRIED if job.should_retry else FAILED
        ours = self._resqued_write_failure(job, queue, execution, text)
        self._resqued_verdict = verdict if ours else CLEAN
        if ours:
            logger.warning(f"{verdict} job={job.id} queue={queue.name}: {text.strip()}")

    def cleanup_execution(
        self, job: Job, pipeline: Pipeline, execution: Execution | None = None
    ) -> None:
        super().cleanup_execution(job, pipeline, execution)
        if self._resqued_dying:
            pipeline.hincrby(job.key, DEATHS, 1)

    def _resqued_forget(self, execution: Execution) -> None:
        """The job was deleted while it ran, or has succeeded and leaves no result."""
        registry = StartedJobRegistry(self._resqued_death.record.queue, self.connection)
        stand_in: Any = _Deleted(registry)
        with self.connection.pipeline() as pipeline:
            execution.delete(stand_in, pipeline)
            leave(pipeline, execution)
            pipeline.execute()
        self._resqued_enqueue_ready()
        self._resqued_release_slot_of(execution.job_id)
        self._resqued_verdict = CLEAN

    def _resqued_release_slot_of(self, job_id: str) -> None:
        """For a job without a hash, which would say under which rate limit it was."""
        limits = RateLimitRegistry.all(self.connection)
        with self.connection.pipeline(transaction=False) as pipeline:
            for limit in limits:
                pipeline.zscore(limit.allowed_key, job_id)
            scores = pipeline.execute()
        for limit, score in zip(limits, scores, strict=True):
            if score is not None:
                limit.release_stale_and_enqueue(job_id)

    def _resqued_queue(self, name: str) -> Queue:
        return self.queue_class(
            name, connection=self.connection, job_class=self.job_class, serializer=self.serializer
        )


class _Deleted:
    """What `Execution.delete` asks of a job that is no more."""

    def __init__(self, registry: StartedJobRegistry) -> None:
        self.started_job_registry = registry
