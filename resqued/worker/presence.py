"""How a worker shows in RQ: birth, state, heartbeats, maintenance, scheduler, death.

`rq info` and the dashboards see what RQ's own code writes. What is replaced here would raise
out of RQ's loop when Redis is away, or would cost a round trip at every step.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any, Final

from loguru import logger
from redis.client import Pipeline
from rq import worker_registration
from rq.defaults import DEFAULT_LOGGING_DATE_FORMAT, DEFAULT_LOGGING_FORMAT, RQ_KEY_PREFIX
from rq.logutils import setup_loghandlers
from rq.worker import BaseWorker, WorkerStatus

from resqued.scoreboard import Phase
from resqued.worker.connecting import NO_ANSWER, make_strict
from resqued.worker.ear import Ear
from resqued.worker.interrupting import Interrupted
from resqued.worker.scheduling import Scheduler
from resqued.worker.slot import Slot, alone
from resqued.worker.taking import Taker, claim_field, sweep
from resqued.worker.waiting import Waiter

_HEARTBEAT: Final = 10.0  # seconds; two heartbeats are at least so far apart
_MAINTENANCE: Final = 900.0  # seconds that maintenance may take: it runs users' callbacks
_GATE: Final = f"{RQ_KEY_PREFIX}:resqued:maintained:"


class Present(BaseWorker):
    """Mixed in before an RQ worker class.

    slot: its place under the arbiter. None: it is on its own (`rq worker -w ...`), or only a
    picture of another worker (`Worker.all()`); in the first case `bootstrap` makes one.
    """

    def __init__(self, *args: Any, slot: Slot | None = None, **kwargs: Any) -> None:
        self._slot = slot
        super().__init__(*args, **kwargs)
        self._heartbeat_at = 0.0
        self._maintenance_at = 0.0

    @property
    def slot(self) -> Slot:
        """Where it works. Only from `bootstrap` on."""
        assert self._slot is not None
        return self._slot

    def _set_connection(self, connection: Any) -> Any:
        """RQ would let a command take worker_ttl seconds, for blocking pops that we never do."""
        return connection

    def bootstrap(
        self,
        logging_level: str | None = "INFO",
        date_format: str = DEFAULT_LOGGING_DATE_FORMAT,
        log_format: str = DEFAULT_LOGGING_FORMAT,
    ) -> None:
        """Register, and be ready for jobs. Raises redis errors, HookFailed."""
        if self._slot is None:
            setup_loghandlers(logging_level, date_format, log_format, name="rq.worker")
            setup_loghandlers(logging_level, date_format, log_format, name="rq.job")
            make_strict(self.connection, self.name)
            self._slot = alone(self.name, self.queue_names())
        slot = self._slot
        slot.signals.install()
        slot.signals.on_command = self.hear
        self.taker = Taker(self.connection, claim_field(self.name, slot.pid))
        self.ear = Ear(self.connection, self.pubsub_channel_name)
        self.waiter = Waiter(slot.signals, self.ear, slot.writer.fd, self._realm())
        self.register_birth()
        self.set_state(WorkerStatus.STARTED)
        slot.hooks.demand("worker_ready", worker=slot.snapshot(), rq_worker=self)
        slot.ready()
        level = "INFO" if slot.alone else "DEBUG"  # else the arbiter says so
        logger.log(level, f"ready queues={','.join(slot.queues)}")

    def _realm(self) -> str:
        """What tells this server's queues from another's of the same name."""
        settings = self.connection.connection_pool.connection_kwargs
        return repr([settings.get(name) for name in ("host", "port", "path", "db")])

    def hear(self) -> type[Interrupted] | None:
        """Read what the ear has heard; says whether the job in hand has to be cut."""
        raise NotImplementedError

    def _install_signal_handlers(self) -> None:
        """Ours are installed since `bootstrap`; RQ's would raise from inside a Redis call."""

    def subscribe(self) -> None:
        """The ear listens; RQ's thread would be in the way of jobs that fork."""

    def unsubscribe(self) -> None:
        """Nothing was subscribed."""

    # Birth and death.

    def register_birth(self) -> None:
        """Under an arbiter the name is ours, also when its last bearer's key still stands."""
        self.slot.registered = True
        if not self.slot.alone:
            self.connection.hset(self.key, "death", "")
        super().register_birth()

    def teardown(self) -> None:
        """Leave no trace but what RQ keeps for a minute. Redis away: recovery will do it."""
        slot = self.slot
        slot.say_goodbye()
        self.waiter.release()
        if self.scheduler:
            self.stop_scheduler()
        try:
            if job_id := self.taker.put_back():
                logger.info(f"put back job={job_id}")
            self.register_death()
        except NO_ANSWER as error:
            logger.warning(f"not deregistered: {error}")
        else:
            slot.step(Phase.LEFT)
        self.ear.close()
        if slot.alone:
            slot.signals.close()

    # State and heartbeats.

    def set_state(self, state: str, pipeline: Pipeline | None = None) -> None:
        """Only what changes is written, and a failure is no reason to leave the loop."""
        if pipeline is not None:
            super().set_state(state, pipeline)
        elif state != self.get_state():
            try:
                super().set_state(state)
            except NO_ANSWER as error:
                logger.debug(f"state {state} not written: {error}")

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """In a given pipeline always; else one round trip every ten seconds at most."""
        if pipeline is not None:
            super().heartbeat(timeout, pipeline)
            self._heartbeat_at = time.monotonic()
        elif time.monotonic() >= self._heartbeat_at + _HEARTBEAT:
            with contextlib.suppress(*NO_ANSWER):
                self.beat(timeout)

    def beat(self, timeout: int | None = None) -> None:
        """A heartbeat that must arrive. Raises redis errors."""
        with self.connection.pipeline(transaction=False) as pipeline:
            super().heartbeat(timeout, pipeline)
            new, *_ = pipeline.execute()
            if new:  # our key had expired, in an outage
                pipeline.hset(self.key, mapping=self.serialize())
                worker_registration.register(self, pipeline)
                pipeline.expire(self.key, timeout or self.worker_ttl + 60)
                pipeline.execute()
        self._heartbeat_at = time.monotonic()

    def maintain_heartbeats(self, job: Any, execution: Any) -> None:
        """A forking class calls this while its horse runs; raising would abandon the horse."""
        self.slot.turn()
        with contextlib.suppress(*NO_ANSWER):
            super().maintain_heartbeats(job, execution)

    def set_shutdown_requested_date(self) -> None:
        """RQ writes it from inside a signal handler; we have nothing to write there."""

    def procline(self, message: str) -> None:
        """The slot's title, not RQ's."""

    # Maintenance.

    @property
    def should_run_maintenance_tasks(self) -> bool:
        """Not where RQ's loop asks; `maintain` does it, between two looks at the queues."""
        return False

    def maintain(self) -> None:
        """RQ's maintenance, and the jobs that dead workers had taken. Raises redis errors."""
        if self.scheduler and not self._schedules():
            self.scheduler.acquire_locks(auto_start=True)
        if time.monotonic() < self._maintenance_at:
            return
        self._maintenance_at = time.monotonic() + self.maintenance_interval
        self.slot.turn(_MAINTENANCE)
        try:
            self.run_maintenance_tasks()
        except NO_ANSWER:
            raise
        except Exception:  # what users' callbacks and handlers raise is theirs
            logger.exception("maintenance failed; the next is due as usual")
        finally:
            self.slot.signals.install()
            self.slot.turn()

    def clean_registries(self) -> None:
        """RQ's, for those queues that no other worker has just cleaned.

        RQ does it at the start of every worker: fifty workers of a new generation would do the
        same work fifty times, one after another.
        """
        pause = max(1, self.maintenance_interval - 1)
        ours = [
            queue
            for queue in self.queues
            if self.connection.set(_GATE + queue.name, self.name, nx=True, ex=pause)
        ]
        every, self.queues = self.queues, ours
        try:
            super().clean_registries()
        finally:
            self.queues = every
        for job_id in sweep(self.connection):
            logger.warning(f"put back job={job_id}: a dead worker had taken it")

    # The scheduler, in a process of its own as in RQ; ours dies with the worker.

    def _start_scheduler(
        self,
        burst: bool = False,
        logging_level: str | None = "INFO",
        date_format: str = DEFAULT_LOGGING_DATE_FORMAT,
        log_format: str = DEFAULT_LOGGING_FORMAT,
    ) -> None:
        """BaseWorker._start_scheduler, with a scheduler that does not outlive us."""
        self.scheduler = Scheduler(
            self.queues,
            connection=self.connection,
            logging_level=logging_level if logging_level is not None else self.log.level,
            date_format=date_format,
            log_format=log_format,
            serializer=self.serializer,
        )
        try:
            self._schedule(burst)
        except NO_ANSWER as error:
            logger.warning(f"scheduler not started yet: {error}")

    def _schedule(self, burst: bool) -> None:
        assert self.scheduler is not None
        self.scheduler.acquire_locks()
        if not self.scheduler.acquired_locks:
            return
        if burst:
            try:
                self.scheduler.register_birth()
                self.scheduler.enqueue_scheduled_jobs()
            finally:
                self.scheduler.release_locks()
                self.scheduler.register_death()
        else:
            self.scheduler.start()

    def _schedules(self) -> bool:
        process = self.scheduler and self.scheduler._process
        return bool(process and process.is_alive()) or not (
            self.scheduler and self.scheduler.should_reacquire_locks
        )

    def stop_scheduler(self) -> None:
        """Ask it to stop; kill it if it does not."""
        process = self.scheduler._process if self.scheduler else None
        if process is None:
            return
        process.terminate()
        process.join(3)
        if process.is_alive():
            process.kill()
            process.join()
