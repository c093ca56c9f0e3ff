"""What a fork server hands to the worker that it has just forked."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from resqued.config import Config
from resqued.scoreboard import Phase, RecordWriter
from resqued.snapshots import Worker, WorkerState
from resqued.worker_snapshot import snapshot_of

if TYPE_CHECKING:
    from resqued.plugins.hooks import Hooks

EXIT_SLACK = 2.0
"""Seconds between the end of a worker's exit and the deadline on its record."""

_STATES = {
    Phase.EMPTY: WorkerState.FORKING,
    Phase.BOOTING: WorkerState.BOOTING,
    Phase.CONNECTING: WorkerState.CONNECTING,
    Phase.IDLE: WorkerState.IDLE,
    Phase.LEAVING: WorkerState.STOPPING,
    Phase.LEFT: WorkerState.STOPPING,
}


class Forge(Protocol):
    """Forks a worker's children for jobs, and ends them. Implemented by the fork server."""

    def fork(self, live: Callable[[], int], abandon: Callable[[], None]) -> int:
        """Fork a child that runs `live`; its pid, in the parent. Raises OSError. abandon: called in
        the child to close what belongs to the worker. The child dies with the worker."""
        ...

    def fork_again(self, live: Callable[[], int]) -> int:
        """The same, in a child that only forks others like itself. Raises OSError."""
        ...

    def may_leave(self) -> bool:
        """In the child: whether nothing is registered for its exit."""
        ...

    def leave(self, seconds: float) -> NoReturn:
        """In the child: run what was registered for its exit since the fork, then end."""
        ...


@dataclass(frozen=True)
class Boot:
    """All that a new worker is given. By then the child has its own process group, its parent-death
    signal, default signal handlers, an empty signal mask, no descriptor of its siblings or of the
    channel, and a record in phase BOOTING with pid, generation, serial, name, started."""

    config: Config
    hooks: Hooks
    writer: RecordWriter
    queues: tuple[str, ...]  # in priority order; `*` not expanded yet
    trial: bool  # only show that a worker of this generation starts; take no job
    doorbell: int  # an eventfd that wakes the arbiter: ring when ready and before leaving
    dumps: int  # the generation's append memfd for faulthandler
    arbiter: str = ""  # its identity; empty: there is none
    forge: Forge | None = None
    first: Callable[[str], bool] = bool
    """Whether no worker of the generation has logged this text before; notes that one has."""

    def worker(self, threads: int = 0, after: int = 0) -> Worker:
        """The snapshot of the worker for hooks, from its record as it is now. threads: that jobs
        have left running. after: so many jobs later."""
        record = self.writer.record
        return snapshot_of(
            record,
            slot=self.writer.slot,
            name=record.name,
            pid=record.pid or None,
            generation=record.generation,
            queues=self.queues,
            state=_STATES.get(record.phase, WorkerState.BUSY),
            config=self.config,
            holds_job=not after,  # else the one in hand is over by then
            jobs=record.done + after,
            threads=threads,
        )


def reseed() -> None:
    """Give this process random numbers of its own. Runs in a new child. Python seeds its generator
    after a fork; that of numpy would be the same in all children. For generators of its own the
    application has the hook after_fork."""
    numpy: Any = sys.modules.get("numpy.random")
    if numpy is not None:
        with contextlib.suppress(Exception):
            numpy.seed()
