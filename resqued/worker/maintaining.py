"""RQ's maintenance and its scheduler, as far as a worker sees to them.

Under an arbiter one worker at a time maintains, between two jobs, when the steward asks: it may
run users' code (failure callbacks, exception handlers, webhooks). The steward schedules. On its
own a worker does both as RQ's do.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from rq.defaults import DEFAULT_LOGGING_DATE_FORMAT, DEFAULT_LOGGING_FORMAT, RQ_KEY_PREFIX
from rq.queue import Queue
from rq.utils import now
from rq.worker import BaseWorker

from resqued.broker.claims import expand, known_queues, spare_claimed, sweep
from resqued.broker.connection import NO_ANSWER
from resqued.broker.registries import attempt, clean
from resqued.broker.schedule import enqueue_due
from resqued.logs import logger
from resqued.scoreboard import Reason
from resqued.worker.scheduling import Scheduler
from resqued.worker.waiting import Waiter

if TYPE_CHECKING:
    from resqued.worker.slot import Slot

_LONGEST: Final = 900.0  # seconds that maintenance may take: it runs users' callbacks
_ALIVE: Final = 5.0  # seconds since the last turn of a steward that counts as alive
_LOCK_AT: Final = (1 << 40) - 1  # a byte of the scoreboard's file, far behind its records
_GATE: Final = f"{RQ_KEY_PREFIX}:resqued:maintained:"


class Maintaining(BaseWorker):
    """Mixed in before an RQ worker class."""

    _resqued_maintenance_at = 0.0
    _resqued_waiter: Waiter
    _resqued_equipped = False

    @property
    def _resqued_slot(self) -> Slot:
        """Where it works."""
        raise NotImplementedError

    @property
    def should_run_maintenance_tasks(self) -> bool:
        """Not where RQ's loop asks; `maintain` does it, between two looks at the queues."""
        return not self._resqued_equipped and bool(super().should_run_maintenance_tasks)

    def _resqued_maintain(self) -> None:
        """Clean RQ's registries if it is our turn. Raises redis errors."""
        if self.scheduler and not self._resqued_schedules():
            self.scheduler.acquire_locks(auto_start=True)
        with self._resqued_maintenance_turn() as ours:
            if not ours:
                return
            self._resqued_waiter.release()  # others hear of pushes meanwhile
            self._resqued_slot.turn(_LONGEST)
            try:
                self.run_maintenance_tasks()
            except NO_ANSWER:
                raise
            except Exception:  # what users' callbacks and handlers raise is theirs
                logger.exception("maintenance failed; the next is due as usual")
            finally:
                self._resqued_slot.signals.install()
                self._resqued_slot.turn()

    @contextlib.contextmanager
    def _resqued_maintenance_turn(self) -> Iterator[bool]:
        """Whether maintenance is due, and nobody else of our arbiter's workers is at it.

        It is marked done before it begins: what ends one worker must not end the next at once.
        """
        if self._resqued_slot.alone:
            due = time.monotonic() >= self._resqued_maintenance_at
            if due:
                self._resqued_maintenance_at = time.monotonic() + self.maintenance_interval
            yield due
            return
        board = self._resqued_slot.writer.board
        vigil = board.vigil()
        # An old wish counts no more: nobody may have vouched for the living since.
        if vigil.asked <= board.maintained or vigil.turned < time.monotonic() - _ALIVE:
            yield False
            return
        try:
            fcntl.lockf(board.fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _LOCK_AT)
        except OSError:  # another is at it, or the job before closed the descriptor
            yield False
            return
        try:
            due = board.vigil().asked > board.maintained
            if due:
                board.maintained = time.monotonic()
            yield due
        finally:
            fcntl.lockf(board.fd, fcntl.LOCK_UN, 1, _LOCK_AT)

    def clean_registries(self) -> None:
        """RQ's, for all queues of the configuration that nobody else has just cleaned.

        RQ does it at the start of every worker: fifty workers of a new generation would do the
        same work fifty times, one after another. With thousands of queues it takes long: a worker
        that has to leave leaves the others' to the next one.
        """
        pause = max(1, self.maintenance_interval - 1)
        spared = False
        for queue in self._resqued_all_queues():
            if self._resqued_slot.stopping is not Reason.NONE:
                return
            if not self.connection.set(_GATE + queue.name, self.name, nx=True, ex=pause):
                continue
            if not spared:
                spare_claimed(self.connection)
            spared = True
            if queue.acquire_maintenance_lock():
                self.log.info("Worker %s: cleaning registries for queue: %s", self.name, queue.name)
                clean(self, queue, self._exc_handlers)
                queue.release_maintenance_lock()
        self.last_cleaned_at = now()  # type: ignore[assignment]
        if self._resqued_slot.alone:
            for job_id in sweep(self.connection):
                logger.warning(f"put back job={job_id}: a dead worker had taken it")

    def clean_group_registries(self) -> None:
        """RQ's."""
        attempt("groups", super().clean_group_registries)

    def _resqued_all_queues(self) -> list[Queue]:
        """Those of all workers, since one maintains for all."""
        if self._resqued_slot.alone:
            return self.queues
        named = [queue.name for queue in self._resqued_slot.config.queues]
        named += [name for name in self.queue_names() if name not in named]
        names = expand(named, named, known_queues(self.connection, self.queue_class))
        return [self._resqued_make_queue(name) for name in names]

    def _resqued_make_queue(self, name: str) -> Queue:
        return self.queue_class(
            name=name,
            connection=self.connection,
            job_class=self.job_class,
            serializer=self.serializer,
            death_penalty_class=self.death_penalty_class,
        )

    # The scheduler of a worker on its own, in a process as in RQ; ours dies with the worker. In a
    # burst it enqueues what is due, once, also under an arbiter.

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
            self._resqued_schedule(burst)
        except NO_ANSWER as error:
            logger.warning(f"scheduler not started yet: {error}")

    def _resqued_schedule(self, burst: bool) -> None:
        assert self.scheduler is not None
        self.scheduler.acquire_locks()
        if not self.scheduler.acquired_locks:
            return
        if burst:
            try:
                self.scheduler.register_birth()
                enqueue_due(
                    self.connection, self.scheduler.acquired_locks, self.scheduler.serializer
                )
            finally:
                self.scheduler.release_locks()
                self.scheduler.register_death()
        else:
            self.scheduler.start()

    def _resqued_schedules(self) -> bool:
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
