"""The arbiter as hooks see it: its state, and the few things that a plugin may do."""

from __future__ import annotations

import os
from collections.abc import Callable

from resqued.config import Config
from resqued.core.state import State, WorkerHandle
from resqued.snapshots import Worker
from resqued.worker_snapshot import snapshot_of


class ArbiterView:
    """What every hook that runs in the arbiter gets as `arbiter`. One object for its life."""

    def __init__(self, config: Config, state: State, reopen: Callable[[], None]) -> None:
        self.config = config
        self.pid = os.getpid()
        self._state = state
        self._reopen = reopen

    @property
    def generation(self) -> int:
        """The number of the generation in service."""
        return self._state.current

    @property
    def state(self) -> str:
        """running, resting, draining, stopping or over."""
        return str(self._state.mode)

    @property
    def wished(self) -> int:
        """The target number of workers."""
        return self._state.target

    @property
    def workers(self) -> tuple[Worker, ...]:
        """Snapshots of the workers that are alive, by number; a trial worker is not among them."""
        workers = [worker for worker in self._state.workers() if not worker.trial]
        return tuple(self.snapshot(m) for m in sorted(workers, key=lambda worker: worker.slot))

    def reopen_logs(self) -> None:
        """Have every process reopen its log files, and call `reopen_logs` there."""
        self._reopen()

    def snapshot(self, worker: WorkerHandle) -> Worker:
        """The snapshot of a worker for hooks."""
        return snapshot_of(
            worker.seen,
            slot=worker.slot,
            name=worker.name,
            pid=worker.pid,
            generation=worker.generation,
            queues=worker.queues,
            state=worker.state,
            config=self.config,
            holds_job=worker.seen.phase.holds_job,
        )
