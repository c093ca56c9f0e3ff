"""What the core wants done. The rim carries these out in order, with no question of its own."""

from __future__ import annotations

from dataclasses import dataclass

from resqued.core.state import Recovery, Steward, WorkerHandle
from resqued.scoreboard import Order, Stop
from resqued.snapshots import Exit


@dataclass(frozen=True)
class Action:
    """One thing to do."""


@dataclass(frozen=True)
class Log(Action):
    level: str
    text: str


@dataclass(frozen=True)
class StartForkServer(Action):
    """Exec a fork server; its pid comes back as the event Started."""

    generation: int


@dataclass(frozen=True)
class BeginLoading(Action):
    """Send it the settings of its generation."""

    generation: int


@dataclass(frozen=True)
class KillForkServer(Action):
    generation: int


@dataclass(frozen=True)
class RetireForkServer(Action):
    generation: int


@dataclass(frozen=True)
class ForkWorker(Action):
    """Clear the slot's stop word and ask the generation's fork server for a worker."""

    worker: WorkerHandle


@dataclass(frozen=True)
class SetStop(Action):
    slot: int
    word: Stop


@dataclass(frozen=True)
class SignalWorker(Action):
    """Through its fork server, or directly when we have adopted it."""

    worker: WorkerHandle
    signum: int
    group: bool = False


@dataclass(frozen=True)
class SetOrder(Action):
    """On the scoreboard; COMMAND tells the worker to look."""

    slot: int
    word: Order
    execution_id: str


@dataclass(frozen=True)
class ForkSteward(Action):
    """Ask the generation's fork server for one; answered by StewardForked."""

    generation: int
    serial: int


@dataclass(frozen=True)
class ClearStewardStatus(Action):
    """Take off the scoreboard what a steward is said to have written and none can have."""


@dataclass(frozen=True)
class SignalSteward(Action):
    """Through its fork server, or directly when we have adopted it."""

    steward: Steward
    signum: int


@dataclass(frozen=True)
class StartRecovery(Action):
    generation: int
    recovery: Recovery


@dataclass(frozen=True)
class KeepRecoveries(Action):
    """They will not be done by this arbiter: keep them for the next start."""

    recoveries: tuple[Recovery, ...]


@dataclass(frozen=True)
class LoadConfig(Action):
    """Read file, environment, flags and plugins again; answered by Loaded or LoadFailed."""

    generation: int  # the one that will use it
    difference: int  # of the count, against the configured one: to plan for


@dataclass(frozen=True)
class DiscardConfig(Action):
    generation: int


@dataclass(frozen=True)
class Promote(Action):
    """The configuration and plugins of this generation are in force from here on."""

    generation: int
    reason: str  # start, reload


@dataclass(frozen=True)
class AskPlan(Action):
    """Ask `choose_queues` for 1..count; answered by Planned."""

    count: int


@dataclass(frozen=True)
class AskStuck(Action):
    """Ask `worker_stuck`; answered by Judged."""

    worker: WorkerHandle
    overdue: float
    attempt: int


@dataclass(frozen=True)
class DumpStacks(Action):
    worker: WorkerHandle


@dataclass(frozen=True)
class TellExited(Action):
    """The hook `worker_exited`."""

    worker: WorkerHandle
    exit: Exit


@dataclass(frozen=True)
class TellReady(Action):
    """The hook `arbiter_ready`, and whoever waits for a daemon to come up."""

    reason: str


@dataclass(frozen=True)
class Announce(Action):
    """Tell whoever waits for a daemon that it is up, though not ready: only Redis is missing."""

    note: str


@dataclass(frozen=True)
class TellStopping(Action):
    graceful: bool


@dataclass(frozen=True)
class CheckExec(Action):
    """Run `before_exec` and `--check` for a re-exec; answered by ExecChecked."""


@dataclass(frozen=True)
class Exec(Action):
    """Replace the process image. If it returns, it failed; answered by ExecChecked."""


@dataclass(frozen=True)
class Finish(Action):
    """Everything is gone: leave with this exit code."""

    code: int
    why: str = ""  # when the code is not 0
