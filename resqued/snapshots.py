"""What hooks get: frozen snapshots of a worker, an exit, a generation, an outcome."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

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
    """One worker, the same snapshot in every process. What is not known yet is None.

    A snapshot never changes, so any thread may read it.
    """

    number: int
    """1, 2, ..; 0 for a trial worker."""
    name: str
    """As RQ knows it."""
    pid: int | None
    """None until it is forked."""
    generation: int
    """The number of the generation that it was forked from."""
    queues: tuple[str, ...]
    """That it serves, most urgent first."""
    state: WorkerState
    """forking, booting, connecting, idle, busy, stopping or killed."""
    started_at: float | None
    """Seconds on the monotonic clock, as all times here."""
    job_id: str | None
    """The job in hand."""
    config: Config
    """The settings in force; in the worker itself those of its generation."""
    jobs: int = 0
    """Jobs that it has done, whatever their outcome."""
    threads: int = 0
    """Threads that jobs have left running in it; 0 in other processes than the worker."""
    trial: bool = False
    """It only proves that a new generation comes up, and takes no job."""
    function: str | None = None
    """Of the job in hand, as RQ names it."""
    queue: str | None = None
    """That the job in hand came from."""
    job_started: float | None = None
    """When the job in hand began, on the monotonic clock."""
    timeout: float | None = None
    """Seconds that the job in hand may take; None without a limit or a job."""
    memory: int | None = None
    """Bytes resident, at the end of its last job; None before that."""
    failed: int = 0
    """Jobs of `jobs` that failed."""

    def __str__(self) -> str:
        number = "trial" if self.trial else self.number
        return f"worker={number} gen={self.generation} pid={self.pid or '-'}"


@dataclass(frozen=True)
class Exit:
    """How a worker ended, as passed to `worker_exited`."""

    code: int | None
    """Exit status; None when a signal ended it."""
    signal: int | None
    """The number of the signal that ended it, or None."""
    booted: bool
    """It had become ready at least once."""
    expected: bool
    """It was told to leave, was recycled, or has finished a burst."""
    seconds: float
    """Its lifetime."""
    rusage: dict[str, float]
    """utime and stime in seconds, maxrss in bytes."""
    job_id: str | None
    """The job that it held when it died."""
    failures_in_a_row: int
    """Of this number."""
    reason: str = ""
    """As `worker_exiting` has it; killed (by the arbiter) or died where that hook cannot run."""
    function: str | None = None
    """Of the job that it held."""
    out_of_memory: bool = False
    """The kernel killed it because memory was out (`oom_kill` of its cgroup)."""
    cause: str = ""
    """Why the arbiter had told it to leave: stop, rest, reload, plan, scale, recycle (the verb),
    stuck, shutdown (RQ's command), orphaned or trial; empty if it had not."""

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
    """One loading of the application."""

    number: int
    """1, 2, ..: one more with each reload, failed ones too."""
    pid: int | None
    """Of its fork server; None if that never started."""
    modules: tuple[str, ...]
    """That it imports (`--require`); empty with --no-preload."""
    config: Config
    """Its settings."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended, as passed to `after_job`."""

    status: str
    """finished, failed, retried, stopped, interrupted (put back), or superseded: another
    process took this worker for dead and ended the execution, so no outcome is recorded."""
    seconds: float
    """That it took, without its wait in the queue."""
    error: BaseException | None
    """What it raised, or what ended it; None if it has finished."""


@dataclass(frozen=True)
class QueueFacts:
    """What is known of one queue, as in `arbiter.queues`."""

    name: str
    """Without RQ's prefix."""
    waiting: int
    """Jobs."""
    oldest: float | None
    """Seconds that the job at its head has waited; None if it is empty or that is not known."""
    workers: int
    """That serve it."""
    busy: int
    """Workers with a job of it in hand."""
    jobs_per_minute: float
    """That have ended."""
    paused: bool
    """Nothing is taken from it."""
    started: int | None = 0
    """Jobs that run now, on any host; None if that is not known."""
    scheduled: int | None = None
    """Jobs that are scheduled, delayed retries among them; None if that is not known."""
    failed: int | None = None
    """Jobs in RQ's registry of failed ones; None if that is not known."""
    unserved: bool = False
    """Something waits, and for some time no living worker has served it, on any host."""
    limit: int | None = None
    """Jobs of it that may run at once on all hosts (`20/fleet`); None: as many as there are
    workers."""


@dataclass(frozen=True)
class QueueCounts:
    """The jobs of one queue since the arbiter was started, as in `arbiter.counts`.

    Of all its workers, in any generation, also those that are gone: no number ever falls.
    """

    started: int = 0
    """Jobs that have begun, each as often as it was tried."""
    finished: int = 0
    """The outcomes are those of `outcome`."""
    failed: int = 0
    """For good."""
    retried: int = 0
    """Failed, and tried again."""
    stopped: int = 0
    """By a command."""
    interrupted: int = 0
    """Put back, when their worker was stopped or has died."""
    waits: tuple[int, ...] = (0,) * 16
    """Jobs by the seconds between being enqueued and being started: one number for each of
    `bounds`, not cumulative."""
    runs: tuple[int, ...] = (0,) * 16
    """Jobs by the seconds that they ran, likewise."""
    wait_sum: float = 0.0
    """Seconds that all in `waits` have waited."""
    run_sum: float = 0.0
    """Seconds that all in `runs` ran."""

    bounds: ClassVar[tuple[float, ...]] = (
        *(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
        *(10.0, 30.0, 60.0, 180.0, 600.0, 1800.0, 3600.0, float("inf")),
    )
    """The upper bounds of `waits` and `runs`, in seconds; each includes its bound."""

    @property
    def ended(self) -> int:
        """Jobs with any outcome."""
        return self.finished + self.failed + self.retried + self.stopped + self.interrupted


@dataclass(frozen=True)
class RedisFacts:
    """What is known of the server, as `arbiter.redis`."""

    answers: bool
    """It did when it was last asked."""
    since: float
    """When it began to answer, or stopped: seconds on the monotonic clock."""
    error: str
    """Why it does not answer; empty if it does."""
    round_trip: float | None
    """Seconds."""
    suspended: bool
    """`rq suspend` is in force."""
    scheduler: bool | None = None
    """A scheduler runs, on any host, for every queue in which something is scheduled; None if
    nothing is."""


@dataclass(frozen=True)
class CronFacts:
    """Periodic jobs, of all arbiters that keep some in this Redis."""

    jobs: int
    """How many there are."""
    enqueued: int
    """Ticks that were enqueued, since each was first seen."""
    skipped: int
    """Ticks that were left out, since the last job was not finished."""
    missed: int
    """Ticks for which no arbiter was there in time."""
    late: float
    """Seconds by which a tick that is due is overdue: the most; 0.0 if none is."""
    lateness: float
    """Seconds after its tick at which a job was enqueued: the most of the last ticks."""
    last_success: float | None
    """When a job of one has finished last: Unix seconds; None: unknown."""
    next_name: str
    """The job whose tick comes next; empty: none."""
    next_at: float | None
    """When that is: Unix seconds."""
    overdue: tuple[str, ...] = ()
    """Jobs that are late, at most ten."""
    failing: tuple[str, ...] = ()
    """Jobs whose last three runs have failed, at most ten."""


@dataclass(frozen=True)
class ScheduleFacts:
    """Scheduled and periodic jobs, as `arbiter.schedule`."""

    moved: int
    """Scheduled jobs that this arbiter has moved to their queues."""
    overdue: float | None
    """Seconds by which a scheduled job is overdue that still waits: the most; 0.0 if none is, None
    if this arbiter does not look (--no-scheduler)."""
    cron: CronFacts | None = None
    """None without --cron, and until it was read, once in a quarter of a minute."""


@dataclass(frozen=True)
class LoopFacts:
    """How the arbiter's loop keeps up, as `arbiter.loop`."""

    turned: float
    """When it last turned: seconds on the monotonic clock. It does each second, unless something
    holds it up, such as a hook."""
    delay: float
    """Seconds by which a turn was late: the longest of the last minute."""
