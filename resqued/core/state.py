"""The arbiter's state: slots, workers, generations, recoveries, and the target.

All of it is plain data, so that a re-exec can hand it over (`handover`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

from resqued.config import Config
from resqued.core.verbs import VerbRequest
from resqued.death import Death, DeathLine
from resqued.plan import Plan
from resqued.queue_words import NOW, ON_TERM
from resqued.scoreboard import TRIAL, Order, Phase, Record, Stop, StopCause
from resqued.snapshots import WorkerState


class Mode(enum.StrEnum):
    """What the arbiter is doing as a whole."""

    RUNNING = "running"
    RESTING = "resting"  # WINCH: no workers, the arbiter stays
    DRAINING = "draining"  # QUIT
    STOPPING = "stopping"  # TERM, INT, the end of the grace, or giving up
    OVER = "over"

    @property
    def leaving(self) -> bool:
        return self in (Mode.DRAINING, Mode.STOPPING, Mode.OVER)


class Stage(enum.StrEnum):
    """How far a generation's fork server has come."""

    WAITING = "waiting"  # to be started, not before its back-off is over
    STARTING = "starting"  # exec'ed; no hello yet
    LOADING = "loading"  # it has its settings and loads plugins and app
    PROVING = "proving"  # loaded; a trial worker has to come up
    READY = "ready"
    RETIRING = "retiring"  # forks no more, leaves after its last child
    DISCARDED = "discarded"  # killed, or leaving: it failed, or a newer reload replaced it


@dataclass(frozen=True)
class Policy:
    """What the core needs to know of a Config."""

    workers: int = 1
    on_term: str = NOW
    on_term_of: dict[str, str] = field(default_factory=dict)  # of queues that differ from that
    grace: float | None = None
    boot_timeout: float = 60.0
    exit_timeout: float = 5.0
    loop_timeout: float = 90.0
    burst: bool = False  # workers that find their queues empty leave for good
    name: str | None = None
    max_workers: int | None = None

    @classmethod
    def of(cls, config: Config) -> Policy:
        general, own = ON_TERM.split(config.on_term)
        return cls(
            workers=config.workers,
            on_term=general,
            on_term_of={queue: word for queue, word in own.items() if word != general},
            grace=config.grace,
            boot_timeout=config.boot_timeout,
            exit_timeout=config.exit_timeout,
            loop_timeout=config.loop_timeout,
            burst=config.burst or config.max_idle_time is not None,
            name=config.name,
            max_workers=config.max_workers,
        )


@dataclass
class OpenRequest:
    """An open request: to a fork server for a worker, a steward or a recovery, or to the kernel for
    a fork server. It ends by an answer, by a failure, or with the fork server (`requests`); the
    field that holds it is None then.
    """

    generation: int
    at: float


@dataclass
class WorkerHandle:
    """What the arbiter knows of one worker, from asking for it until its exit is known."""

    slot: int
    serial: int
    name: str
    generation: int
    queues: tuple[str, ...]
    asked: float  # when its fork was asked for
    request: OpenRequest | None = None
    pid: int | None = None
    state: WorkerState = WorkerState.FORKING
    deadline: float | None = None  # of its boot
    seen: Record = field(default_factory=Record)  # its record as last read
    ready: bool = False
    adopted: bool = False  # its fork server is gone: it is the arbiter's child
    stop: Stop = Stop.NONE  # what it has been told
    cause: StopCause = StopCause.NONE  # why
    nudge_at: float | None = None  # when to send NOW again
    kill_at: float | None = None  # when it is killed if it has not left
    attempt: int = 0  # how often worker_stuck has been asked about this deadline
    ask_after: float = 0.0
    why: str = ""  # why it was killed, for its job's failure
    order: Order = Order.NONE  # what a command, or a verdict, asked of the execution `ordered`
    ordered: str = ""
    failure: str = ""  # what that execution is to fail with (Order.FAIL)
    hard_at: float | None = None  # when it is killed if it still runs that
    stopped_by: float | None = None  # its process is stopped (SIGSTOP): until when it may be

    def __str__(self) -> str:
        return f"worker={self.slot} gen={self.generation} pid={self.pid or '-'}"

    def fields(self, *, job: bool = False) -> dict[str, Any]:
        """For a line of the log that is about it. job: and about the job that it was seen with."""
        fields: dict[str, Any] = {"worker": self.slot, "gen": self.generation, "pid": self.pid}
        if job and self.seen.phase.holds_job and self.seen.job_id:
            function = self.seen.function or None
            fields |= {"job": self.seen.job_id, "queue": self.seen.queue, "function": function}
        return fields

    @property
    def trial(self) -> bool:
        return self.slot == TRIAL

    @property
    def overdue_at(self) -> float | None:
        """The current deadline: of the boot, then the one on the worker's record."""
        if self.state in (WorkerState.FORKING, WorkerState.KILLED):
            return None
        if self.seen.phase <= Phase.BOOTING:
            return self.deadline
        promised = self.seen.deadline or None
        if promised is None or self.stopped_by is None:
            return promised if promised is not None else self.stopped_by
        return min(promised, self.stopped_by)


@dataclass
class Slot:
    """A place for a worker. It outlives its workers and keeps their failures."""

    number: int
    worker: WorkerHandle | None = None
    failures: int = 0  # in a row
    killed: int = 0  # of these, by a SIGKILL from elsewhere; counts until the first is ready
    not_before: float = 0.0  # back-off
    vetoes: int = 0  # of its next worker, in a row
    finished: bool = False  # its worker found its queues empty (burst)
    look_again: bool = False  # its queues may not be empty: a successor has to check


@dataclass
class GenerationHandle:
    """One loading of the application."""

    number: int
    policy: Policy
    plan: Plan
    stage: Stage = Stage.WAITING
    request: OpenRequest | None = None  # for its fork server
    pid: int | None = None
    deadline: float | None = None
    not_before: float = 0.0
    failures: int = 0  # fork servers of this generation that ended unasked, in a row
    proven: bool = False  # a worker of it has become ready
    rejected: str = ""  # why its trial worker did not come up
    vetoes: int = 0  # of its trial worker, in a row
    vetoed: str = ""  # why, the last time
    heard: float = 0.0  # when its fork server last sent a message
    ready_at: float = 0.0
    left: bool = False  # its fork server was told to leave, but not by the arbiter
    duties: bool = False  # its fork server was told to have a duties process
    calling: str = ""  # what its fork server runs now that is not resqued's own


@dataclass
class Recovery:
    """A death whose job is not recovered yet."""

    death: Death
    request: OpenRequest | None = None
    not_before: float = 0.0
    tries: int = 0
    failed: bool = False  # the last answer was that it did not succeed
    line: DeathLine | None = None  # what the log has not said yet

    @property
    def name(self) -> str:
        return self.death.name


@dataclass
class StewardHandle:
    """What the arbiter knows of one steward; there are two while a new one takes over."""

    serial: int
    generation: int
    asked: float
    request: OpenRequest | None = None
    pid: int | None = None
    ready: bool = False  # it has said hello
    turned: float = 0.0  # when its loop last turned, as the scoreboard says
    adopted: bool = False  # its fork server is gone: it is the arbiter's child
    stopped: float = 0.0  # when it was told to leave; 0: not yet
    kill_at: float | None = None
    given_up: bool = False  # Redis does not answer: killed as soon as adopted

    def __str__(self) -> str:
        return f"steward={self.serial} gen={self.generation} pid={self.pid or '-'}"

    @property
    def stale_at(self) -> float | None:
        """Since when its loop has not turned, once it has said hello."""
        return self.turned if self.ready else None


class ReexecStage(enum.StrEnum):
    NONE = "none"
    WANTED = "wanted"  # waits for a booting generation
    CHECKING = "checking"


@dataclass
class State:
    """Everything the core knows. Times are seconds on the monotonic clock."""

    identity: str  # `<host>.<arbiter id>`, the prefix of all workers' names
    policy: Policy
    plan: Plan
    terminal: bool = False  # in the foreground of a terminal: WINCH is only a resize
    mode: Mode = Mode.RUNNING
    difference: int = 0  # TTIN and TTOU against the configured count
    refused_count: int = 0  # what `worker_count` wanted beyond the limit; logged once
    slots: dict[int, Slot] = field(default_factory=dict)
    trial: WorkerHandle | None = None
    generations: dict[int, GenerationHandle] = field(default_factory=dict)
    current: int = 1  # the generation in service
    booting: int | None = None  # the one that a reload tries
    numbers: int = 1  # the last generation number given
    serial: int = 0  # the last serial given, of a worker or a steward
    recoveries: dict[str, Recovery] = field(default_factory=dict)
    stewards: dict[int, StewardHandle] = field(default_factory=dict)
    steward_failures: int = 0  # in a row
    steward_not_before: float = 0.0  # back-off
    deaths: int = 0  # of workers with a job in hand, in a row: no job has ended between
    reexec: ReexecStage = ReexecStage.NONE
    reload_wanted: bool = False  # HUP came during a check, which may fail
    verb_requests: dict[int, VerbRequest] = field(default_factory=dict)  # by ticket
    ever_ready: bool = False
    term_came: bool = False
    ready_told: bool = False  # the hook `arbiter_ready`
    announced: bool = False  # to the process that waits for a daemon to come up
    stop_by: float | None = None  # the end of the grace
    sort_at: float | None = None  # after a TERM that means different things for different queues
    stop_began: float | None = None  # when all were told to leave now
    recover_by: float | None = None  # after it, leave with recoveries undone
    retire_by: float | None = None
    judge_after: float = 0.0
    last_reload: str = "never"
    last_reload_at: float = 0.0  # when it came to that
    reload_reason: str = "reload"
    exit_code: int = 0
    exit_reason: str = ""
    since: float = 0.0  # wall clock of the arbiter's start, for `--status`

    @property
    def target(self) -> int:
        """The target number of workers."""
        if self.mode is not Mode.RUNNING:
            return 0
        return max(0, self.policy.workers + self.difference)

    def workers(self) -> list[WorkerHandle]:
        """All workers, the trial too."""
        found = [slot.worker for slot in self.slots.values() if slot.worker is not None]
        return [*found, self.trial] if self.trial is not None else found

    def worker(self, slot: int, serial: int) -> WorkerHandle | None:
        """The worker of a slot, or None if it is gone."""
        found = self.trial if slot == TRIAL else self.slot(slot).worker
        return found if found is not None and found.serial == serial else None

    def slot(self, number: int) -> Slot:
        slot = self.slots.get(number)
        if slot is None:
            slot = self.slots[number] = Slot(number)
        return slot

    def service(self) -> GenerationHandle | None:
        """The generation in service, if its fork server can fork."""
        generation = self.generations.get(self.current)
        return generation if generation and generation.stage is Stage.READY else None
