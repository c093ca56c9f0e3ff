"""What can happen to the arbiter. The rim makes these; the core decides what follows."""

from __future__ import annotations

from dataclasses import dataclass, field

from resqued.core.state import Policy
from resqued.plan import Plan
from resqued.scoreboard import Record, StewardStatus
from resqued.verdicts import Verdict


@dataclass(frozen=True)
class Event:
    """One thing that happened."""


def how_it_ended(status: int) -> str:
    """`signal 9`, `exit status 1`. status: as os.waitpid gives it."""
    signum = status & 0x7F
    return f"signal {signum}" if signum else f"exit status {status >> 8}"


@dataclass(frozen=True)
class Signalled(Event):
    """A signal to the arbiter, by its name without SIG."""

    name: str


@dataclass(frozen=True)
class Started(Event):
    """A fork server was exec'ed (pid), or could not be (pid 0 and the error)."""

    generation: int
    pid: int
    error: str = ""


@dataclass(frozen=True)
class Greeted(Event):
    generation: int


@dataclass(frozen=True)
class Loaded(Event):
    """The configuration for a new generation is valid."""

    generation: int
    policy: Policy
    plan: Plan


@dataclass(frozen=True)
class LoadFailed(Event):
    generation: int
    reason: str


@dataclass(frozen=True)
class AppReady(Event):
    generation: int


@dataclass(frozen=True)
class AppFailed(Event):
    generation: int
    reason: str
    traceback: str = ""


@dataclass(frozen=True)
class ForkServerGone(Event):
    """Waited for. What it forked and could not tell of any more is found by the rim.

    found: pids on the records of slots, by slot. stewards: pids by serial.
    """

    generation: int
    status: int
    found: dict[int, int] = field(default_factory=dict)
    stewards: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkerForked(Event):
    generation: int
    slot: int
    serial: int
    pid: int


@dataclass(frozen=True)
class WorkerNotForked(Event):
    """Fork failed (a crash, with back-off) or was vetoed (retry_after seconds).

    leaving: its fork server leaves, and not because we said so.
    """

    generation: int
    slot: int
    serial: int
    reason: str
    retry_after: float | None = None
    leaving: bool = False


@dataclass(frozen=True)
class WorkerGone(Event):
    generation: int
    slot: int
    serial: int
    pid: int
    status: int
    rusage: dict[str, float]
    record: Record


@dataclass(frozen=True)
class StewardForked(Event):
    """pid is 0 when there was no process to be had."""

    serial: int
    pid: int


@dataclass(frozen=True)
class StewardGone(Event):
    serial: int
    status: int


@dataclass(frozen=True)
class Commanded(Event):
    """Somebody asks something of a worker: shutdown, stop, kill."""

    slot: int
    serial: int
    word: str
    execution_id: str  # that it had in hand then


@dataclass(frozen=True)
class RecoveryDone(Event):
    """verdict is empty when it did not succeed and must be tried again."""

    name: str
    verdict: str


@dataclass(frozen=True)
class Planned(Event):
    """The answer to AskPlan: a plan, or why there is none."""

    count: int
    plan: Plan | None
    reason: str = ""


@dataclass(frozen=True)
class Counted(Event):
    """`worker_count` wishes so many workers."""

    count: int


@dataclass(frozen=True)
class Judged(Event):
    """The answer to AskStuck."""

    slot: int
    serial: int
    verdict: Verdict | None


@dataclass(frozen=True)
class ExecChecked(Event):
    """reason is empty when the re-exec may go on."""

    reason: str = ""


@dataclass(frozen=True)
class Resumed(Event):
    """First event of a new image after a re-exec."""


@dataclass(frozen=True)
class Turn(Event):
    """A turn of the loop begins: what the records of all workers say now."""

    records: dict[int, Record]
    steward: StewardStatus = field(default_factory=StewardStatus)  # as the steward wrote it
    frozen: frozenset[int] = frozenset()  # slots whose process is stopped (SIGSTOP)
    overslept: bool = False  # the last wait took far longer than asked: a suspend, or a STOP
