"""Putting right in Redis what a dead worker left behind: its job, and its entry in RQ.

The record's phase says how far the worker had come, never its exit status; whether something
is still to be done, Redis alone. Each step is a script or a transaction that watches the
execution, so it does not matter how often, or by how many at once, it is tried.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from redis.client import Pipeline
from rq.defaults import RQ_KEY_PREFIX
from rq.exceptions import NoSuchJobError
from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue
from rq.rate_limit import RateLimitRegistry
from rq.registry import StartedJobRegistry
from rq.utils import now
from rq.worker import Worker

from resqued import descendants, linux, titles
from resqued.broker.burial import bury, bury_execution
from resqued.broker.claims import REST, Taker
from resqued.broker.connection import NO_ANSWER, Outage, make_connection
from resqued.broker.executions import stands
from resqued.broker.fencing import DEATHS, INTERRUPTIONS, UNBEGUN, counted, drop, exists
from resqued.broker.hand import GIVE_BACK, HANDS, execution_of
from resqued.broker.oddities import hashes, is_of_the_data, said, text_of
from resqued.broker.owner import OWNER, QUEUE, RUNNING, Owner, entry, leave
from resqued.config import Config
from resqued.descendants import Span
from resqued.logs import logger
from resqued.plugins.hooks import Hooks
from resqued.scoreboard import Order, Phase
from resqued.worker import classes
from resqued.worker.boot import Death
from resqued.worker.leftovers import tell
from resqued.worker.trackers import tell_trackers
from resqued.worker.writing import Writing

_DESCENDANTS: Final = 1.0
"""Seconds that a recovery waits for what the job has started, after SIGKILL. A stop waits for two
seconds for recoveries."""

NOTHING, CLEAN, REQUEUED, RETRIED, FAILED = "nothing", "clean", "requeued", "retried", "failed"
UNANSWERED = "unanswered"

_UNBEGUN: Final = 10
"""Times that a job may be started by a step for a worker that dies before it hears of it."""

_TRIES: Final = 3
"""Times that a recovery may fail because of the job's own data, or of a user's class."""

_PATIENCE: Final = 240.0
"""Seconds that one recovery waits for Redis. It is killed after more, as one that hangs."""

T = TypeVar("T")


class RecoveryKilled(Exception):
    """Recoveries of this job have been killed, or have died, and nobody knows why."""


class _Unanswered(BaseException):
    """The patience is over."""


class _Patience(Outage):
    """An outage as a recovery lives through it."""

    ends = 0.0

    def wait(self, error: BaseException) -> None:
        if time.monotonic() >= self.ends:
            raise _Unanswered
        super().wait(error)


def recover(config: Config, hooks: Hooks, death: Death) -> str:
    """The verdict on a dead worker's job; returns when Redis has taken it.

    requeued: at the front of its queue again. retried, failed: as RQ does with a killed horse.
    clean: its outcome had been written. nothing: it had none. unanswered: Redis has not answered,
    or has refused to write, for so long that another recovery shall try it.
    Runs in a short-lived child of a fork server, which bounds it. Raises ConfigError, and what
    a user's class raises.
    """
    _Patience.ends = time.monotonic() + _PATIENCE
    titles.recovery(death.record.name)
    classes.inherit_log_level()
    connection = make_connection(config, f"{death.record.name}.recovery")
    undertaker = _make_undertaker(config, death, connection)
    try:
        undertaker._resqued_attempt(undertaker._resqued_release_claim)
        undertaker._resqued_attempt(undertaker._resqued_release_hand)
        if death.tries >= _TRIES:
            why = RecoveryKilled(f"{death.tries} recoveries of it did not come to an end")
            undertaker._resqued_attempt(lambda: undertaker._resqued_give_up(why))
        else:
            undertaker._resqued_attempt(
                undertaker._resqued_end_executions, undertaker._resqued_give_up
            )
        undertaker._resqued_attempt(undertaker._resqued_deregister)
    except _Unanswered:
        return UNANSWERED
    logger.info(f"recovered worker={death.record.name} verdict={undertaker._resqued_verdict}")
    return undertaker._resqued_verdict


def _make_undertaker(config: Config, death: Death, connection: Any) -> Undertaker:
    """One of the dead worker's own class, so that what that overrides is called here too.

    RQ's class where the user's cannot be made. Raises ConfigError.
    """
    queues = [name for name in death.queues if name != REST]
    arguments = classes.worker_arguments(config, death.record.name, connection)
    theirs = classes.worker_class(config)
    for cls in (theirs, Worker):
        made: Any = type("Undertaker", (Undertaker, cls), {"__module__": cls.__module__})
        undertaker: Undertaker = made.__new__(made)
        undertaker._resqued_config, undertaker._resqued_death = config, death
        try:
            made.__init__(undertaker, queues, **arguments)
        except Exception as error:
            if cls is Worker or isinstance(error, NO_ANSWER):
                raise
            logger.exception(f"recovering without {config.worker_class!r}, which cannot be made")
            continue
        undertaker.death_penalty_class = theirs.death_penalty_class
        break
    return undertaker


class Undertaker(Writing):
    """The dead worker, as far as RQ's code needs one. Mixed in before its class."""

    _resqued_config: Config
    _resqued_death: Death
    _resqued_verdict = NOTHING
    _resqued_dying = False
    _resqued_deaths = 0

    def _set_connection(self, connection: Any) -> Any:
        return connection  # RQ would give each command as long as a blocking pop

    def _resqued_turn(self) -> None:
        """Nobody watches it but the fork server, which bounds it as a whole."""

    def _resqued_allow(self, seconds: float) -> None:
        """The same."""

    def _resqued_outage(self) -> Outage:
        return _Patience(self._resqued_config)

    def _set_ip_address(self, connection: Any) -> None:
        self.ip_address = "unknown"  # RQ would ask Redis, which may be away

    def set_state(self, state: str, pipeline: Pipeline | None = None) -> None:
        """The dead have none; its class may want to say so in the transaction of an outcome."""

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """The same."""

    @property
    def _resqued_lives(self) -> bool:
        """The worker works on; only Redis, gone back in time, says that it holds what it has not
        any more. What it has taken since is its own."""
        owner = Owner.parse(self._resqued_death.owner)
        return owner.machine == linux.machine() and owner.life is linux.Life.ALIVE

    def _resqued_until_answered(self, call: Callable[[], T]) -> T:
        """Not for ever what is refused because of the job's own data."""
        outage = self._resqued_outage()
        while True:
            try:
                answer = call()
            except NO_ANSWER as error:
                if is_of_the_data(error):
                    raise
                outage.wait(error)
            else:
                outage.over()
                return answer

    def _resqued_attempt(
        self, step: Callable[[], None], give_up: Callable[[BaseException], None] | None = None
    ) -> None:
        """Take a step until Redis has answered; a few times if the job's data are in the way."""
        problem: BaseException
        for tries in range(1, _TRIES + 1):
            try:
                self._resqued_until_answered(step)
                return
            except (Exception, SystemExit) as error:
                what = said(error)
                logger.warning(f"recovery of worker={self.name} failed {tries} times: {what}")
                logger.opt(exception=True).debug("where it failed")
                problem = error
            time.sleep(0.5 * tries)
        if give_up is not None:
            self._resqued_until_answered(lambda: give_up(problem))

    def _resqued_give_up(self, error: BaseException) -> None:
        """Fail the job barely, by its ids: nothing else can be done about it."""
        record = self._resqued_death.record
        reason = f"Its worker is gone, and it cannot be recovered: {said(error)}"
        for job_id, execution_id in self._resqued_executions_left():
            logger.error(f"failed job={job_id} queue={record.queue}: {reason}")
            execution = Execution(execution_id, job_id, self.connection, self.name)
            bury_execution(self.connection, self.job_class, execution, record.queue, reason)
            self._resqued_verdict = FAILED
            try:
                self._resqued_release_after(job_id)
            except Exception as problem:
                if isinstance(problem, NO_ANSWER) and not is_of_the_data(problem):
                    raise
                logger.warning(f"after the failure of job={job_id}: {problem!r}")

    def _resqued_release_after(self, job_id: str) -> None:
        """What waits for a job that cannot be read."""
        self._resqued_release_slot_of(job_id)
        job = self.job_class(job_id, connection=self.connection, serializer=self.serializer)
        self._resqued_enqueue_dependents(self._resqued_queue(self._resqued_death.record.queue), job)

    def _resqued_release_claim(self) -> None:
        """What it had taken and not begun goes back to the front."""
        record = self._resqued_death.record
        jobs = self.job_class.key_for("")
        taker = Taker(self.connection, self._resqued_death.owner, jobs)
        if self._resqued_lives:
            meant = record.phase is Phase.TAKEN and not record.overflow
            job_id = taker.put_back(only=record.job_id) if meant else None
        elif record.phase is Phase.TAKEN and not self._resqued_death.interrupted:
            job_id = self._resqued_release_deadly(taker)
        else:
            job_id = taker.put_back()
        if job_id:
            logger.info(f"put back job={job_id}: it had not begun")
            self._resqued_verdict = REQUEUED

    def _resqued_release_hand(self) -> None:
        """What a step has started for it, and it had not begun: put back without being read."""
        death, record = self._resqued_death, self._resqued_death.record
        if self._resqued_lives:
            return
        hand: Any = self.connection.hget(HANDS, death.owner)
        in_hand = execution_of(hand) if isinstance(hand, bytes) else ""
        if record.stopped == Order.STOP and in_hand in (record.execution_id, record.token):
            return  # it gets that outcome
        named = bool(in_hand) and in_hand == record.execution_id
        if named and record.phase is not Phase.TAKEN:
            return  # begun: it gets an outcome, and the hand goes with that
        counter, limit = "", 0
        if named and not death.interrupted:  # it may have died of what it read
            counter, limit = DEATHS, self._resqued_config.max_deaths
        elif not death.interrupted:
            counter, limit = UNBEGUN, _UNBEGUN
        give_back = self.connection.register_script(GIVE_BACK)
        keys = [HANDS, RUNNING, self.executions_key]
        what, *rest = give_back(
            keys=keys, args=[death.owner, in_hand, RQ_KEY_PREFIX, counter, limit, 1]
        )
        if what == b"nothing":
            return
        job_id, queue_key, execution_id = (raw.decode() for raw in rest)
        if what == b"back":
            logger.info(f"put back job={job_id}: it had not begun")
            self._resqued_verdict = REQUEUED
        elif what == b"limit":
            reason = f"It has killed its worker {limit} times before it began, which is the limit."
            if counter == UNBEGUN:
                reason = f"Its worker died {limit} times before it heard of it: that is the limit."
            queue = queue_key.removeprefix(QUEUE)
            logger.error(f"failed job={job_id} queue={queue}: {reason}")
            execution = Execution(execution_id, job_id, self.connection, self.name)
            bury_execution(self.connection, self.job_class, execution, queue, reason)
            self.connection.hdel(HANDS, death.owner)
            self._resqued_verdict = FAILED

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
        if self._resqued_lives or not self._resqued_has_the_name():
            return
        # What it had registered for in the end, `*` included.
        names = text_of(self.connection.hget(self.key, "queues") or b"") or ""
        self.queues = [self._resqued_queue(name) for name in names.split(",") if name]
        self.register_death()
        self.connection.hdel(HANDS, self._resqued_death.owner)

    def _resqued_has_the_name(self) -> bool:
        pid, owner = self.connection.hmget(self.key, "pid", OWNER)
        if owner is not None:
            return text_of(owner) == self._resqued_death.owner
        return pid is None or pid == str(self._resqued_death.record.pid).encode()

    def _resqued_executions_left(self) -> list[tuple[str, str]]:
        """Job and execution ids. The record names one; where it does not, RQ's list does."""
        record = self._resqued_death.record
        if record.execution_id and not record.overflow:
            return [(record.job_id, record.execution_id)]
        if record.execution_id and (found := self._resqued_long_ids()):
            return found
        if self._resqued_lives:
            return []  # it has a job of its own in hand
        rests = record.phase in (Phase.IDLE, Phase.LEFT) and record.stopped != Order.STOP
        if rests or not self._resqued_has_the_name():
            return []
        members = filter(None, map(text_of, self.connection.smembers(self.executions_key)))
        pairs = [member.rpartition(":")[::2] for member in members]
        return sorted(pair for pair in pairs if record.execution_id in ("", pair[1]))

    def _resqued_long_ids(self) -> list[tuple[str, str]]:
        """The record has no room for the job's id; the note of who runs what has."""
        found = []
        for field, value in hashes(self.connection, RUNNING)[0].items():
            job_id, _, execution_id = (text_of(field) or "").rpartition(":")
            with contextlib.suppress(ValueError):
                same = str(entry(value)[0]) == self._resqued_death.owner
                if same and execution_id == self._resqued_death.record.execution_id:
                    found.append((job_id, execution_id))
        return found

    def _resqued_end(self, job_id: str, execution_id: str) -> None:
        execution = Execution(execution_id, job_id, self.connection, self.name)
        if self._resqued_death.record.phase is Phase.TAKEN and not self._resqued_stands(execution):
            return  # it was put back, or has not come into being: what was not begun is not read
        try:
            job = self.job_class.fetch(job_id, self.connection, self.serializer)
        except NoSuchJobError:
            self._resqued_forget(execution)
            return
        queue = self._resqued_queue(job.origin or self._resqued_death.record.queue)
        if not exists(self.connection, job, execution):
            if self._resqued_verdict is NOTHING:
                self._resqued_verdict = CLEAN
            drop(self.connection, job, execution)
            self._resqued_follow_up(job, queue)
            return
        with contextlib.suppress(ValueError):  # its hash has expired, or another has just ended it
            execution.refresh()
        execution._job = job
        self.executions[execution.id] = execution
        job.ended_at = now()
        self._resqued_end_descendants(job)
        self._resqued_decide(job, queue, execution)

    def _resqued_stands(self, execution: Execution) -> bool:
        registry = StartedJobRegistry(self._resqued_death.record.queue, self.connection)
        key = self.job_class.key_for(execution.job_id)
        return stands(self.connection, registry.key, key, execution)

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
            if record.horse and record.horse_ticks:
                child = Span(record.horse, record.horse_ticks, since)
                tell(job.id, descendants.end_child(child, limit=_DESCENDANTS))
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
                if self._resqued_death.reason:
                    text += f"; the last time: {self._resqued_death.reason}"
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
        self._resqued_deaths = deaths = counted(self.connection.hget(job.key, DEATHS)) + 1
        status, signalled = death.status, os.WIFSIGNALED(death.status)
        signal_text = f" (signal {os.WTERMSIG(status)})" if signalled else ""
        text = f"Work-horse terminated unexpectedly; waitpid returned {status}{signal_text}; "
        text += death.reason
        if deaths >= self._resqued_config.max_deaths:
            job.retries_left = None
            text += f"\nIt has killed its worker {deaths} times, which is the limit."
        self._resqued_dying = True
        try:
            self.handle_work_horse_killed(job, death.record.pid, status, death.rusage)
        except Exception:  # the user's
            logger.exception(f"handle_work_horse_killed of job={job.id} failed")
        self._resqued_fail(job, queue, execution, text)
        self._resqued_dying = False

    def _resqued_fail(self, job: Job, queue: Queue, execution: Execution, text: str) -> None:
        verdict = RETRIED if job.should_retry else FAILED
        ours = self._resqued_write_failure(job, queue, execution, text)
        self._resqued_verdict = verdict if ours else CLEAN
        if ours:
            logger.warning(f"{verdict} job={job.id} queue={queue.name}: {text.strip()}")
        if ours and verdict == FAILED:
            tell_trackers(self, job, text)

    def cleanup_execution(
        self, job: Job, pipeline: Pipeline, execution: Execution | None = None
    ) -> None:
        super().cleanup_execution(job, pipeline, execution)
        if not self._resqued_lives:
            pipeline.hdel(HANDS, self._resqued_death.owner)
        if self._resqued_dying:
            pipeline.hset(job.key, DEATHS, str(self._resqued_deaths))

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
