"""How a worker shows in RQ: birth, state, heartbeats, death.

`rq info` and the dashboards see what RQ's own code writes. What is replaced here would raise
out of RQ's loop when Redis is away, or would cost a round trip at every step.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any, Final

from redis.client import Pipeline
from redis.exceptions import ResponseError
from rq.defaults import DEFAULT_LOGGING_DATE_FORMAT, DEFAULT_LOGGING_FORMAT
from rq.logutils import setup_loghandlers
from rq.worker import WorkerStatus

from resqued import linux
from resqued.broker.claims import Taker
from resqued.broker.connection import NO_ANSWER, answer_time
from resqued.broker.executions import set_rosters_aside
from resqued.broker.listener import Ear
from resqued.broker.oddities import is_of_the_data
from resqued.broker.owner import OWNER
from resqued.broker.skipped import Skipped
from resqued.broker.strict import make_strict
from resqued.logs import logger
from resqued.printable import listed
from resqued.scoreboard import Phase
from resqued.worker.interrupting import Interrupted
from resqued.worker.maintaining import Maintaining
from resqued.worker.own_entry import OwnEntry
from resqued.worker.slot import Slot, alone
from resqued.worker.unread import Unread
from resqued.worker.waiting import TURN, Waiter

if TYPE_CHECKING:
    from resqued.worker.fast_path import FastPath

_HEARTBEAT: Final = 10.0  # seconds; two heartbeats are at least so far apart
_PROBE: Final = 5.0  # seconds without a write after which an idle worker tries one


class Present(Maintaining):
    """Mixed in before an RQ worker class.

    It may be on its own (`rq worker -w ...`), or only a picture of another worker
    (`Worker.all()`). Before `work` and after it, it does as RQ's class does.
    """

    _resqued_given_slot: Slot | None = None
    """Its place under the arbiter; set before its `__init__`."""

    _resqued_own_slot: Slot | None = None
    """The place of a worker without an arbiter, once it needs one; a new one for each `work`."""

    _resqued_fast: FastPath | None = None
    """One script a job, where that can be."""

    _resqued_heartbeat_at = _resqued_probed_at = 0.0
    _resqued_equipped = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.hostname:
            self.hostname = linux.host_name()
        self._resqued_unread = Unread()

    @property
    def _resqued_slot(self) -> Slot:
        """Where it works."""
        if self._resqued_given_slot is not None:
            return self._resqued_given_slot
        if self._resqued_own_slot is None:
            self._resqued_own_slot = alone(self.name, self.queue_names())
        return self._resqued_own_slot

    def _set_connection(self, connection: Any) -> Any:
        """RQ would let a command take worker_ttl seconds, for blocking pops that we never do."""
        return connection

    def _set_ip_address(self, connection: Any) -> None:
        """RQ's, without a warning where CLIENT is forbidden; the connection has its name."""
        self.ip_address = "unknown"
        with contextlib.suppress(ResponseError, KeyError, TypeError):
            self.ip_address = str(connection.client_info()["addr"])

    def bootstrap(
        self,
        logging_level: str | None = "INFO",
        date_format: str = DEFAULT_LOGGING_DATE_FORMAT,
        log_format: str = DEFAULT_LOGGING_FORMAT,
    ) -> None:
        """Register, and be ready for jobs. Raises redis errors, HookFailed.

        It does not subscribe as RQ's does: the steward listens, or the ear. RQ's thread would be in
        the way of jobs that fork.
        """
        if (own := self._resqued_own_slot) is not None and own.pid != os.getpid():
            self._resqued_own_slot, self._resqued_equipped = None, False  # forked since
        slot = self._resqued_slot
        if slot.alone:
            setup_loghandlers(logging_level, date_format, log_format, name="rq.worker")
            setup_loghandlers(logging_level, date_format, log_format, name="rq.job")
            make_strict(self.connection, self.name)
        slot.signals.take_over()
        slot.signals.on_command = self._resqued_hear
        self._resqued_equipped = False
        self._resqued_equip()
        self.register_birth()
        self.set_state(WorkerStatus.STARTED)
        slot.hooks.demand("worker_ready", worker=slot.snapshot(), rq_worker=self)
        slot.ready()
        level = "INFO" if slot.alone else "DEBUG"  # else the arbiter says so
        logger.log(level, f"ready queues={listed(slot.queues)}")

    def _resqued_equip(self) -> None:
        """Have what it takes to find jobs; nothing is connected yet."""
        if self._resqued_equipped:
            return
        self._resqued_equipped = True
        slot = self._resqued_slot
        jobs = self.job_class.key_for("")
        self._resqued_taker = Taker(self.connection, slot.owner, jobs)
        self._resqued_skipped = Skipped(self._resqued_taker)
        # What is heard of there comes with a signal, which only our handlers survive.
        hears = slot.alone and slot.signals.installed
        channel = self.pubsub_channel_name if hears else None
        self._resqued_ear = Ear(self.connection, channel, answer_time(slot.config))
        turn = min(TURN, slot.patience / 4)
        self._resqued_waiter = Waiter(
            slot.signals, self._resqued_ear, slot.writer.board.fd, self._resqued_realm(), turn
        )
        self._resqued_entry = OwnEntry(self, slot.owner)
        self._resqued_shield()

    def _resqued_shield(self) -> None:
        raise NotImplementedError

    def _resqued_realm(self) -> str:
        """What tells this server's queues from another's of the same name."""
        pool = self.connection.connection_pool
        told = [pool.connection_kwargs.get(name) for name in ("host", "port", "path", "db")]
        return repr([*told, getattr(pool, "service_name", None)])

    def _resqued_hear(self) -> type[Interrupted] | None:
        """Read what the ear has heard; says whether the job in hand has to be cut."""
        raise NotImplementedError

    def _install_signal_handlers(self) -> None:
        """Ours are installed since `bootstrap`; RQ's would raise from inside a Redis call."""

    # Birth and death.

    def register_birth(self) -> None:
        """Under an arbiter the name is ours, also when its last bearer's key still stands."""
        self._resqued_slot.registered = True
        if not self._resqued_slot.alone:
            self.connection.hset(self.key, "death", "")
        if self._resqued_fast is not None:
            self._resqued_fast.register()
        try:
            super().register_birth()
        except ResponseError as error:
            aside = is_of_the_data(error) and set_rosters_aside(self.connection, self.queue_names())
            if not aside:
                raise
            self.connection.hset(self.key, "death", "")  # the rest was carried out
            super().register_birth()

    def serialize(self) -> dict[str, Any]:
        """What `register_birth` writes; without the owner nobody would drop a dead worker's key."""
        return {**super().serialize(), OWNER: str(self._resqued_slot.owner)}

    def teardown(self) -> None:
        """Leave no trace but what RQ keeps for a minute. Redis away: recovery will do it."""
        slot = self._resqued_slot
        slot.say_goodbye()
        self._resqued_waiter.release()
        self.unsubscribe()  # as somebody else's code may have subscribed
        if self.scheduler:
            self.stop_scheduler()
        try:
            if job_id := self._resqued_taker.put_back():
                logger.info(f"put back job={job_id}")
            self._resqued_close_hand()
            if slot.writer.record.execution_id and not slot.alone:
                return  # the job has no outcome: recovery sees to it, and to our name
            self.register_death()
        except NO_ANSWER as error:
            logger.warning(f"not deregistered: {error}")
        else:
            slot.step(Phase.LEFT)
        finally:
            self._resqued_ear.close()
            if slot.alone:
                slot.close()
                self._resqued_own_slot = None
                self._resqued_equipped = False

    def _resqued_close_hand(self) -> None:
        """What a step whose answer never came may have started goes back. Raises redis errors."""

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
        """In a given pipeline always; else the steward sends them, or we do every ten seconds."""
        if pipeline is not None:
            super().heartbeat(timeout, pipeline)
            self._resqued_heartbeat_at = time.monotonic()
        elif (
            time.monotonic() >= self._resqued_heartbeat_at + _HEARTBEAT
            and not self._resqued_slot.attended
        ):
            with contextlib.suppress(*NO_ANSWER):
                self._resqued_beat(timeout)

    def _resqued_beat(self, timeout: int | None = None) -> None:
        """A heartbeat that must arrive. Raises redis errors."""
        with self.connection.pipeline(transaction=False) as pipeline:
            super().heartbeat(timeout, pipeline)
            new, *_ = pipeline.execute()
            if new and self.birth_date is not None:  # our key had expired, in an outage
                self._resqued_equip()
                self._resqued_entry.write(pipeline)
                pipeline.execute()
        self._resqued_heartbeat_at = time.monotonic()

    def _resqued_probe(self) -> None:
        """Have Redis take a write while we are idle. Raises redis errors.

        A former master answers every question, on connections from before the failover, and a
        worker that has nothing to write would wait there for jobs that never come.
        """
        last = max(self._resqued_heartbeat_at, self._resqued_probed_at)
        if time.monotonic() >= last + _PROBE:
            self.connection.expire(self.key, self.worker_ttl + 60)
            self._resqued_probed_at = time.monotonic()

    def maintain_heartbeats(self, job: Any, execution: Any) -> None:
        """A forking class calls this while its horse runs; raising would abandon the horse."""
        self._resqued_slot.turn()
        with contextlib.suppress(*NO_ANSWER):
            super().maintain_heartbeats(job, execution)

    def set_shutdown_requested_date(self) -> None:
        """RQ writes it from inside a signal handler; we have nothing to write there."""

    def procline(self, message: str) -> None:
        """The slot's title, not RQ's."""
