"""RQ's maintenance of registries, and its scheduler, as far as workers run them.

Under an arbiter one worker at a time runs maintenance, between two jobs, when the steward asks for
it: it may run users' code (failure callbacks, exception handlers, webhooks). The scheduler runs in
the steward. A worker without an arbiter does both, as RQ's does.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import setproctitle
from rq.defaults import RQ_KEY_PREFIX
from rq.queue import Queue
from rq.scheduler import RQScheduler
from rq.utils import now

from resqued import logs
from resqued.broker.claims import protect_claimed, put_back_orphaned
from resqued.broker.outages import NO_ANSWER
from resqued.broker.queues import expand, known_queues
from resqued.broker.registries import attempt, clean
from resqued.broker.schedule import enqueue_due
from resqued.linux import set_parent_death_signal
from resqued.logs import LogEvent
from resqued.scoreboard import Reason

if TYPE_CHECKING:
    from resqued.worker.context import Context

_LONGEST: Final = 900.0  # seconds that maintenance may take: it runs users' callbacks
_ALIVE: Final = 5.0  # seconds since its last turn for which a steward counts as alive
_LOCK_AT: Final = (1 << 40) - 1  # a byte of the scoreboard's file, far behind its records
_GATE: Final = f"{RQ_KEY_PREFIX}:resqued:maintained:"


class Maintenance:
    """The maintenance by one worker."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._slot = context.slot
        self._worker = context.worker
        self._due_at = 0.0

    def turn(self) -> None:
        """Clean RQ's registries if it is this worker's turn. Raises redis errors."""
        worker, slot = self._worker, self._slot
        if worker.scheduler and not self._schedules():
            worker.scheduler.acquire_locks(auto_start=True)
        with self._claim_turn() as is_due:
            if not is_due:
                return
            self._context.waiter.release()  # let another worker wait for pushes
            slot.turn(_LONGEST)
            try:
                worker.run_maintenance_tasks()
            except NO_ANSWER:
                raise
            except Exception:  # from users' callbacks and handlers
                logs.exception(
                    "maintenance failed; the next is due as usual", LogEvent.WORKER_NOTICE
                )
            finally:
                slot.signals.install()
                slot.turn()

    @contextlib.contextmanager
    def _claim_turn(self) -> Iterator[bool]:
        """Whether maintenance is due, and no other worker of the arbiter runs it. It is marked done
        before it begins: if it kills this worker, the next one must not start it at once."""
        if self._slot.alone:
            due = time.monotonic() >= self._due_at
            if due:
                self._due_at = time.monotonic() + self._worker.maintenance_interval
            yield due
            return
        board = self._slot.writer.board
        status = board.steward_status()
        # Ignore an old request: no steward may have sent heartbeats for the living since.
        if status.asked <= board.maintained or status.turned < time.monotonic() - _ALIVE:
            yield False
            return
        try:
            fcntl.lockf(board.fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _LOCK_AT)
        except OSError:  # another runs it, or a job closed the descriptor
            yield False
            return
        try:
            due = board.steward_status().asked > board.maintained
            if due:
                board.maintained = time.monotonic()
            yield due
        finally:
            fcntl.lockf(board.fd, fcntl.LOCK_UN, 1, _LOCK_AT)

    def clean_registries(self) -> None:
        """Replaces BaseWorker.clean_registries: for all configured queues that were not just
        cleaned.

        RQ does it at the start of every worker: fifty workers of a new generation would do the same
        work fifty times. With thousands of queues it takes long: a worker that has to exit leaves
        the rest to the next one. Half of the interval counts as just now: an idle worker looks up
        only now and then, so two rounds are less than an interval apart when the first one was
        late.
        """
        worker = self._worker
        spared_ms = max(1000, worker.maintenance_interval * 1000 // 2)
        spared = False
        for queue in self._all_queues():
            if self._slot.stopping is not Reason.NONE:
                return
            if not worker.connection.set(_GATE + queue.name, worker.name, nx=True, px=spared_ms):
                continue
            if not spared:
                protect_claimed(worker.connection)
            spared = True
            if queue.acquire_maintenance_lock():
                worker.log.info(
                    "Worker %s: cleaning registries for queue: %s", worker.name, queue.name
                )
                clean(worker, queue, worker._exc_handlers)
                queue.release_maintenance_lock()
        worker.last_cleaned_at = now()
        if self._slot.alone:
            for job_id in put_back_orphaned(worker.connection):
                logs.warning(
                    f"put back job={job_id}: a dead worker had taken it",
                    LogEvent.JOB_PUT_BACK,
                    job=job_id,
                )

    def clean_group_registries(self, rqs: Callable[[], None]) -> None:
        """Replaces BaseWorker.clean_group_registries (rqs)."""
        attempt("groups", rqs)

    def _all_queues(self) -> list[Queue]:
        """The queues of all workers, since one worker maintains for all."""
        worker = self._worker
        if self._slot.alone:
            own: list[Queue] = worker.queues
            return own
        named = [queue.name for queue in self._slot.config.queues]
        named += [name for name in worker.queue_names() if name not in named]
        names = expand(named, named, known_queues(worker.connection, worker.queue_class))
        return [self._context.queues.make(name) for name in names]

    # The scheduler of a worker without an arbiter, in a process as in RQ. In a burst the worker
    # enqueues what is due once, also under an arbiter.

    def start_scheduler(self, burst: bool, level: Any, date_format: str, log_format: str) -> None:
        """Replaces BaseWorker._start_scheduler: this scheduler does not outlive the worker."""
        worker = self._worker
        worker.scheduler = Scheduler(
            worker.queues,
            connection=worker.connection,
            logging_level=level if level is not None else worker.log.level,
            date_format=date_format,
            log_format=log_format,
            serializer=worker.serializer,
        )
        try:
            _schedule(worker.scheduler, worker.connection, burst)
        except NO_ANSWER as error:
            logs.warning(f"scheduler not started yet: {error}", LogEvent.WORKER_NOTICE)

    def _schedules(self) -> bool:
        scheduler = self._worker.scheduler
        process = scheduler and scheduler._process
        return bool(process and process.is_alive()) or not (
            scheduler and scheduler.should_reacquire_locks
        )

    def stop_scheduler(self) -> None:
        """Ask the scheduler to stop; kill it if it does not."""
        scheduler = self._worker.scheduler
        process = scheduler._process if scheduler else None
        if process is None:
            return
        process.terminate()
        process.join(3)
        if process.is_alive():
            process.kill()
            process.join()


def _schedule(scheduler: Scheduler, connection: Any, burst: bool) -> None:
    scheduler.acquire_locks()
    if not scheduler.acquired_locks:
        return
    if burst:
        try:
            scheduler.register_birth()
            enqueue_due(connection, scheduler.acquired_locks, scheduler.name)
        finally:
            scheduler.release_locks()
            scheduler.register_death()
    else:
        scheduler.start()


class Scheduler(RQScheduler):
    """RQ's scheduler, forked by a worker for `--with-scheduler`; it ends when the worker does."""

    def start(self) -> Any:
        self._starter = os.getpid()
        return super().start()

    def work(self) -> None:
        """Runs in the child. As RQScheduler.work, while the worker lives."""
        set_parent_death_signal(signal.SIGKILL)  # its locks expire by themselves
        setproctitle.setproctitle(f"resqued: scheduler {','.join(sorted(self._queue_names))}")
        if os.getppid() == self._starter:
            super().work()
