"""The worker classes that RQ sees: all methods of RQ that resqued overrides.

Every override calls one of the worker's parts (`parts.py`) through `_resqued`, the only attribute
that resqued adds to a worker. Besides, attributes are set on single objects:

* on a worker, `execute_job`, if a user's class overrides it (`WorkerParts._shield`);
* on a job while it runs, `perform` and `_execute` (`JobRunner.wrap`); while its outcome is written,
  `set_status` (`fencing.in_one_transaction`);
* on a pipeline, `execute` and its command list (`fencing`, `bad_data`);
* on a worker while RQ's code makes the commands of a step, `connection` (`FastPath.write`).

`perform_job` and `handle_exception` are not overridden, since error trackers and tracers patch
them.
"""

from __future__ import annotations

import signal
from functools import partial
from typing import Any

from redis.client import Pipeline
from rq.defaults import DEFAULT_LOGGING_DATE_FORMAT, DEFAULT_LOGGING_FORMAT
from rq.executions import Execution
from rq.job import Job
from rq.logutils import setup_loghandlers
from rq.queue import Queue
from rq.worker import BaseWorker, Worker

from resqued import linux
from resqued.worker.classes.foreign import ForeignRunner
from resqued.worker.job.interruptions import DeathPenalty
from resqued.worker.job_runner import JobRunner
from resqued.worker.parts import PartsOnDemand, renew_after_fork
from resqued.worker.registration import address_of


class Fenced(BaseWorker):
    """An RQ worker whose executions end once. Comes before RQ's class in the order of bases."""

    _resqued: Any

    def handle_job_success(self, *args: Any, **kwargs: Any) -> None:
        self._resqued.runner.writer.succeed(super().handle_job_success, *args, **kwargs)

    def cleanup_execution(
        self, job: Job, pipeline: Pipeline, execution: Execution | None = None
    ) -> None:
        rqs = super().cleanup_execution
        self._resqued.runner.writer.clean_up(rqs, job, pipeline, execution)

    def _enqueue_dependents_safely(self, queue: Queue, job: Job) -> None:
        self._resqued.runner.writer.enqueue_dependents_safely(queue, job)

    def _release_slot_safely(self, job: Job) -> None:
        self._resqued.runner.writer.release.free_slot_safely(job)


class InSlot(BaseWorker):
    """An RQ worker in a slot: takes jobs, waits, listens and exits in resqued's way. Comes before
    RQ's class, whose way of running jobs it leaves."""

    _resqued: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.hostname:
            self.hostname = linux.host_name()

    def _set_connection(self, connection: Any) -> Any:
        """Keep the connection's timeout. RQ would set it to worker_ttl seconds, for blocking pops,
        which resqued does not use."""
        return connection

    def _set_ip_address(self, connection: Any) -> None:
        self.ip_address = address_of(connection)

    # Its life.

    def bootstrap(
        self,
        logging_level: str | None = "INFO",
        date_format: str = DEFAULT_LOGGING_DATE_FORMAT,
        log_format: str = DEFAULT_LOGGING_FORMAT,
    ) -> None:
        renew_after_fork(self)
        set_up = partial(setup_loghandlers, logging_level, date_format, log_format)
        self._resqued.bootstrap(lambda name: set_up(name=name))

    def teardown(self) -> None:
        self._resqued.teardown()

    def _install_signal_handlers(self) -> None:
        """Nothing: `bootstrap` has installed resqued's; RQ's would raise inside a Redis call."""

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: float | None = None
    ) -> tuple[Job, Queue] | None:
        """timeout: None in a burst; else ignored, since nothing blocks in Redis."""
        self._resqued.begin()
        found: tuple[Job, Queue] | None = self._resqued.fetcher.next(timeout is None, max_idle_time)
        return found

    def check_for_suspension(self, burst: bool) -> None:
        """Nothing: the script that takes a job checks it, without a round trip of its own."""

    def procline(self, message: str) -> None:
        """Nothing: the process title is the slot's."""

    # Registration.

    def register_birth(self) -> None:
        self._resqued.registration.birth(super().register_birth)

    def serialize(self) -> dict[str, Any]:
        fields: dict[str, Any] = self._resqued.registration.serialize(super().serialize())
        return fields

    def set_state(self, state: str, pipeline: Pipeline | None = None) -> None:
        self._resqued.registration.set_state(super().set_state, state, pipeline)

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        self._resqued.registration.heartbeat(super().heartbeat, timeout, pipeline)

    def maintain_heartbeats(self, job: Any, execution: Any) -> None:
        self._resqued.registration.maintain(super().maintain_heartbeats, job, execution)

    def set_shutdown_requested_date(self) -> None:
        """Nothing: RQ writes it in a signal handler."""

    # Maintenance and the scheduler.

    @property
    def should_run_maintenance_tasks(self) -> bool:
        """False once `Fetcher` finds the jobs: it also runs maintenance."""
        parts = vars(self).get("_resqued")
        return not (parts is not None and parts.works) and bool(
            super().should_run_maintenance_tasks
        )

    def clean_registries(self) -> None:
        self._resqued.maintenance.clean_registries()

    def clean_group_registries(self) -> None:
        self._resqued.maintenance.clean_group_registries(super().clean_group_registries)

    def _start_scheduler(
        self,
        burst: bool = False,
        logging_level: str | None = "INFO",
        date_format: str = DEFAULT_LOGGING_DATE_FORMAT,
        log_format: str = DEFAULT_LOGGING_FORMAT,
    ) -> None:
        self._resqued.maintenance.start_scheduler(burst, logging_level, date_format, log_format)

    def stop_scheduler(self) -> None:
        self._resqued.maintenance.stop_scheduler()


class ResquedWorker(Fenced, InSlot, Worker):
    """An RQ worker that runs jobs in its process, or in a child for each that never uses Redis for
    the worker; no job is lost. Arguments as for `rq.Worker`.

    It also works without an arbiter: `rq worker -w resqued.worker.rq_worker.ResquedWorker`. Then it
    takes jobs and writes outcomes as safely, but nothing kills a stuck job or recovers one whose
    worker died.
    """

    _resqued = PartsOnDemand(JobRunner)
    death_penalty_class = DeathPenalty

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        rqs = partial(super().get_heartbeat_ttl, job, working_time)
        ttl: int = self._resqued.runner.heartbeat_ttl(rqs, job)
        return ttl

    def execute_job(self, job: Job, queue: Queue) -> None:
        self._resqued.runner.execute(job, queue)

    def prepare_execution(self, job: Job) -> Any:
        return self._resqued.runner.prepare_execution(super().prepare_execution, job)

    def prepare_job_execution(self, job: Job, remove_from_intermediate_queue: bool = False) -> None:
        rqs = partial(super().prepare_job_execution, job, remove_from_intermediate_queue)
        self._resqued.runner.prepare(rqs, job)

    def _finalize_success(
        self, job: Job, queue: Queue, execution: Execution, return_value: Any
    ) -> None:
        self._resqued.runner.finalize_success(job, queue, execution, return_value)

    def _finalize_failure(
        self, job: Job, queue: Queue, execution: Execution, exc_info: Any
    ) -> None:
        self._resqued.runner.finalize_failure(job, queue, execution, exc_info)


class Foreign(InSlot):
    """Inserted between a user's class that runs jobs in its own way and RQ's (`classes.mro`)."""

    _resqued = PartsOnDemand(ForeignRunner)

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: float | None = None
    ) -> tuple[Job, Queue] | None:
        self._resqued.runner.settle()
        return super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)

    def prepare_execution(self, job: Job) -> Any:
        return self._resqued.runner.prepare_execution(super().prepare_execution, job)

    def handle_job_success(self, *args: Any, **kwargs: Any) -> None:
        self._resqued.runner.succeed(partial(super().handle_job_success, *args, **kwargs))

    def cleanup_execution(
        self, job: Job, pipeline: Pipeline, execution: Execution | None = None
    ) -> None:
        self._resqued.runner.clean_up(super().cleanup_execution, job, pipeline, execution)

    def execute_job(self, job: Job, queue: Queue) -> None:
        self._resqued.runner.execute(super().execute_job, job, queue)

    def prepare_job_execution(self, job: Job, remove_from_intermediate_queue: bool = False) -> None:
        rqs = partial(super().prepare_job_execution, job, remove_from_intermediate_queue)
        self._resqued.runner.prepare(rqs, job)

    def _finalize_success(self, job: Job, *args: Any, **kwargs: Any) -> None:
        rqs = partial(super()._finalize_success, job, *args, **kwargs)
        self._resqued.runner.finalize_success(rqs, job)

    def _finalize_failure(
        self, job: Job, queue: Queue, execution: Execution, exc_info: Any
    ) -> None:
        rqs = super()._finalize_failure
        self._resqued.runner.finalize_failure(rqs, job, queue, execution, exc_info)

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        parent: Any = super()
        self._resqued.runner.horse.fork(partial(parent.fork_work_horse, job, queue))

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        parent: Any = super()
        self._resqued.runner.horse.live(partial(parent.main_work_horse, job, queue))

    def monitor_work_horse(self, job: Job, queue: Queue, execution: Execution) -> None:
        parent: Any = super()
        rqs = partial(parent.monitor_work_horse, job, queue, execution)
        self._resqued.runner.horse.monitor(rqs, job, queue, execution)

    def wait_for_horse(self) -> Any:
        return self._resqued.runner.horse.wait(super().wait_for_horse)

    def kill_horse(self, sig: signal.Signals = signal.SIGKILL) -> None:
        self._resqued.runner.horse.kill(sig)

    def _handle_stopped_job(self, job: Job, queue: Queue, execution: Execution) -> None:
        parent: Any = super()
        self._resqued.runner.horse.note_stopped(
            partial(parent._handle_stopped_job, job, queue, execution)
        )

    def handle_work_horse_killed(self, job: Job, retpid: int, ret_val: int, rusage: Any) -> None:
        rqs = partial(super().handle_work_horse_killed, job, retpid, ret_val, rusage)
        self._resqued.runner.horse.note_killed(rqs, ret_val)

    def handle_job_failure(
        self,
        job: Job,
        queue: Queue,
        started_job_registry: Any = None,
        exc_string: str = "",
        execution: Execution | None = None,
    ) -> None:
        parent: Any = super()

        def rqs(text: str) -> None:
            parent.handle_job_failure(job, queue, started_job_registry, text, execution)

        self._resqued.runner.horse.fail(rqs, job, queue, exc_string, execution)


class RecoveryWorker(BaseWorker):
    """The dead worker of a recovery, for RQ's code. Comes before the dead worker's class."""

    def _set_connection(self, connection: Any) -> Any:
        """As in InSlot."""
        return connection

    def _set_ip_address(self, connection: Any) -> None:
        self.ip_address = "unknown"  # RQ would ask Redis, which may be away

    def set_state(self, state: str, pipeline: Pipeline | None = None) -> None:
        """Nothing: RQ's code may set a state in the transaction of an outcome."""

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """Nothing, likewise."""
