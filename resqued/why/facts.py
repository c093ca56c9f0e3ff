"""What a story is told from. Collected from Redis and from a scoreboard (`broker/whereabouts.py`,
`ctl/why_here.py`). Moments are Unix seconds; what is not known is None, or empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class WorkerFacts:
    """A worker, as Redis has it, and if it is of an arbiter here, as the scoreboard has it."""

    name: str
    host: str = ""
    number: int = 0  # of its slot; 0: not known, or it has none
    generation: int = 0  # 0: not known
    stock: bool = False  # RQ's own, not resqued's
    arbiter: str = ""  # identity; empty: none
    here: bool = False  # of the arbiter that was asked
    state: str = ""  # idle, busy, suspended, started
    beat: float | None = None  # seconds since its last heartbeat
    registered: bool = True  # in RQ, and not as dead


@dataclass(frozen=True)
class QueueNow:
    """A queue at this moment."""

    name: str
    known: bool = True  # RQ knows it, or it is served or configured somewhere
    waiting: int = 0
    oldest: float | None = None  # seconds that its first job has waited
    started: int = 0
    scheduled: int = 0
    deferred: int = 0
    failed: int = 0
    workers: tuple[WorkerFacts, ...] = ()  # that serve it, on any host
    suspended: bool = False  # `rq suspend`
    paused: bool = False
    paused_by: str = ""
    paused_since: float | None = None
    limit: int | None = None  # of jobs at once in the whole fleet
    scheduler: bool | None = None  # whether one runs for it; None: not known
    per_minute: float | None = None  # jobs that have ended, by all workers that serve it
    near: tuple[str, ...] = ()  # names of queues that are like it


@dataclass(frozen=True)
class Dependency:
    """A job that another depends on. status: as RQ has it; empty: it is not in Redis any more."""

    id: str
    status: str = ""
    queue: str = ""


@dataclass(frozen=True)
class PastResult:
    """A result that RQ has kept. kind: the name of `rq.results.Result.Type` in small letters."""

    kind: str
    at: float
    last_line: str = ""
    worker: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class PastEvent:
    """An entry of the job's story (`broker/story.py`)."""

    at: float
    what: str
    cause: str
    worker: WorkerFacts
    memory: int = 0
    left: int = -1


@dataclass(frozen=True)
class Held:
    """A worker that holds the job. begun: it runs; else it was only taken."""

    worker: WorkerFacts
    begun: bool = True
    alive: bool | None = None  # its process; None: not known from here
    stale: bool = False  # RQ takes the execution for abandoned


@dataclass(frozen=True)
class JobFacts:
    """A job at this moment."""

    id: str
    kind: str = "hash"  # type of its key; none: there is no key
    status: str = ""  # as RQ has it
    function: str = ""
    queue: str = ""  # that it came from, or is for
    created: float | None = None
    enqueued: float | None = None
    started: float | None = None
    ended: float | None = None
    timeout: float | None = None  # seconds; -1: none
    kept: float | None = None  # seconds until its key expires; None: it does not
    retries_left: int | None = None
    retries_done: int = 0
    interruptions: int = 0
    deaths: int = 0
    worker: WorkerFacts | None = None  # that its hash names
    places: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # in queues, from 1
    transit: str = ""  # the queue in whose intermediate list it is
    holders: tuple[Held, ...] = ()
    registries: tuple[str, ...] = ()  # started, finished, failed, deferred, scheduled, canceled..
    due: float | None = None  # when it is scheduled
    dependencies: tuple[Dependency, ...] = ()
    goes_on: bool = False  # also if what it depends on has failed
    rate_limit: str = ""  # its key
    rate: tuple[int, int] | None = None  # jobs that have a slot of it, and how many may
    results: tuple[PastResult, ...] = ()  # the newest first
    events: tuple[PastEvent, ...] = ()  # the oldest first
    at: QueueNow | None = None  # its queue
    near: tuple[str, ...] = ()  # ids that begin like it


@dataclass(frozen=True)
class PastExit:
    """A worker with this number that has left, as the events `worker_exited` and `worker_died` have
    it. cause: why the arbiter had told it to leave, in one word."""

    at: float
    reason: str = ""
    cause: str = ""
    out_of_memory: bool = False
    expected: bool = True
    job: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class SlotFacts:
    """A worker of an arbiter here, by its number."""

    number: int
    wanted: int  # workers that there shall be
    alive: bool = False
    pid: int = 0
    phase: str = "empty"
    generation: int = 0
    current: int = 0  # generation in service
    queues: tuple[str, ...] = ()
    age: float | None = None  # seconds
    job: str = ""
    function: str = ""
    queue: str = ""
    job_age: float | None = None
    timeout: float | None = None
    overdue: float = 0.0  # seconds past its deadline
    done: int = 0
    failed: int = 0
    memory: int = 0
    told: str = ""  # why it was told to leave (`StopCause`); empty: it was not
    now: bool = False  # it was told to leave at once
    backs_off: float = 0.0  # seconds until the next try
    failures: int = 0  # in a row
    mode: str = "running"  # of the arbiter
    redis_error: str = ""  # why Redis does not answer
    redis_since: float = 0.0  # seconds that it has not
    suspended: bool = False
    paused: tuple[str, ...] = ()  # of its queues
    exits: tuple[PastExit, ...] = ()  # the oldest first


@dataclass(frozen=True)
class Told:
    """A story. state: one word for programs. lines: what is known beside the headline, in order.
    remedies: what a person can do."""

    state: str
    headline: str
    lines: tuple[str, ...] = ()
    remedies: tuple[str, ...] = ()
