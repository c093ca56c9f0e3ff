"""What hooks get: frozen snapshots of a worker, an exit, a generation, an outcome."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resqued.config import Config


class WorkerState(enum.StrEnum):
    """Where a worker is in its life, as the arbiter sees it."""

    FORKING = "forking"  # asked for, its pid not known yet
    BOOTING = "booting"  # forked; after_fork has not returned (deadline: the boot timeout)
    CONNECTING = "connecting"  # after_fork has returned, Redis has not answered; no deadline
    IDLE = "idle"
    BUSY = "busy"
    STOPPING = "stopping"  # told to leave, once
    KILLED = "killed"  # SIGKILL sent; its end is not known yet


@dataclass(frozen=True)
class Worker:
    """One worker, the same snapshot in every process. What is not known yet is None."""

    number: int
    name: str
    pid: int | None
    generation: int
    queues: tuple[str, ...]
    state: WorkerState
    started_at: float | None  # seconds, monotonic
    job_id: str | None
    config: Config
    jobs: int = 0  # that it has done, whatever their outcome
    threads: int = 0  # that jobs have left running in it; 0 in other processes than the worker

    def __str__(self) -> str:
        return f"worker={self.number} gen={self.generation} pid={self.pid or '-'}"


@dataclass(frozen=True)
class Exit:
    """How a worker ended, as passed to `worker_exited`."""

    code: int | None  # exit status, None when a signal ended it
    signal: int | None
    booted: bool  # it had become ready at least once
    expected: bool  # told to leave, recycled or finished a burst
    seconds: float  # lifetime
    rusage: dict[str, float]  # utime and stime in seconds, maxrss in bytes
    job_id: str | None  # the job it held when it died
    failures_in_a_row: int  # of this slot

    def __str__(self) -> str:
        if self.signal is None:
            return f"exit status {self.code}"
        import signal

        try:
            return f"signal {signal.Signals(self.signal).name}"
        except ValueError:
            return f"signal {self.signal}"


@dataclass(frozen=True)
class Generation:
    """One loading of the application, as passed to `app_loaded`."""

    number: int
    pid: int
    modules: tuple[str, ...]
    config: Config


@dataclass(frozen=True)
class Outcome:
    """How a job ended, as passed to `after_job`."""

    status: str
    """finished, failed, retried, stopped, interrupted (put back), or superseded: another
    process took this worker for dead and ended the execution, so no outcome is recorded."""
    seconds: float
    error: BaseException | None
