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

if TYPE_CHECKING:
    from resqued.plugins.hooks import Hooks

EXIT_SLACK = 2.0
"""Seconds between the end of a worker's exit and the deadline on its record: it is not stuck."""

_STATES = {
    Phase.EMPTY: WorkerState.FORKING,
    Phase.BOOTING: WorkerState.BOOTING,
    Phase.CONNECTING: WorkerState.CONNECTING,
    Phase.IDLE: WorkerState.IDLE,
    Phase.LEAVING: WorkerState.STOPPING,
    Phase.LEFT: WorkerState.STOPPING,
}


class Forge(Protocol):
    """How a worker forks a child for a job, and how that child ends. Made by the fork server."""

    def fork(self, live: Callable[[], int], abandon: Callable[[], None]) -> int:
        """Fork a child whose life is `live`; the parent gets its pid. Raises OSError.

        abandon: closes, in the child, what is the worker's own. The child dies with the worker.
        """
        ...

    def fork_again(self, live: Callable[[], int]) -> int:
        """The same in a child that only forks others like itself. Raises OSError."""
        ...

    def may_leave(self) -> bool:
        """In the child: whether nothing waits for its exit."""
        ...

    def leave(self, seconds: float) -> NoReturn:
        """In the child: what was registered for its exit since the fork, then the end."""
        ...


@dataclass(frozen=True)
class Boot:
    """All a new worker knows. By the time it is made, the child has its own process group, its
    parent-death signal, default signal handlers, an empty mask, no descriptor of its siblings
    or of the channel, and a record in phase BOOTING with pid, generation, serial, name, started.
    """

    config: Config
    hooks: Hooks
    writer: RecordWriter
    queues: tuple[str, ...]  # in priority order; `*` not expanded yet
    trial: bool  # prove that a worker of this generation comes up, take no job, leave
    doorbell: int  # an eventfd that wakes the arbiter: ring when ready and before leaving
    dumps: int  # the generation's append memfd for faulthandler
    arbiter: str = ""  # its identity; empty: there is none above
    forge: Forge | None = None
    first: Callable[[str], bool] = bool
    """Whether none of the generation has told this yet; from then on one has."""

    def worker(self, threads: int = 0, after: int = 0) -> Worker:
        """The snapshot that hooks are shown, from the record as it is now.

        threads: that jobs have left running. after: so many jobs more.
        """
        record = self.writer.record
        return Worker(
            number=self.writer.slot,
            name=record.name,
            pid=record.pid or None,
            generation=record.generation,
            queues=self.queues,
            state=_STATES.get(record.phase, WorkerState.BUSY),
            started_at=record.started or None,
            job_id=record.job_id or None,
            config=self.config,
            jobs=record.done + after,
            threads=threads,
        )


def reseed() -> None:
    """Random numbers after a fork: no two processes have the same.

    Python seeds its own generator after a fork; that of numpy would be the same in all. Generators
    that the application has made itself are its own affair: see after_fork. Runs in a fresh child.
    """
    numpy: Any = sys.modules.get("numpy.random")
    if numpy is not None:
        with contextlib.suppress(Exception):
            numpy.seed()
