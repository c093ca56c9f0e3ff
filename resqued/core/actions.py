"""What the core wants done. The shell (`arbiter.effects`) does it, in order, and decides nothing.

An action that fails comes back as the event `ActionFailed` and keeps none of the others in its list
from being done. So two of which one must not happen without the other are never in one list: the
second is decided when the first has been answered.
"""

from __future__ import annotations

from dataclasses import dataclass

from resqued.core.state import WorkerHandle
from resqued.death import Death
from resqued.messages import ForkSteward, Recover, Retire, SignalSteward, SignalWorker
from resqued.scoreboard import Order, Stop
from resqued.snapshots import Exit

Sendable = SignalWorker | ForkSteward | SignalSteward | Recover | Retire
"""Messages to a fork server that need nothing but what the core knows."""


@dataclass(frozen=True)
class Log:
    level: str
    text: str


@dataclass(frozen=True)
class StartForkServer:
    """Exec a fork server; answered by Started."""

    generation: int


@dataclass(frozen=True)
class BeginLoading:
    """Send a fork server the settings of its generation; answered by the message Ready or
    Failed."""

    generation: int


@dataclass(frozen=True)
class Send:
    """A message to a fork server. One to a fork server that is gone is dropped."""

    generation: int
    message: Sendable


@dataclass(frozen=True)
class KillForkServer:
    generation: int


@dataclass(frozen=True)
class StartWorker:
    """Clear the slot's stop word and order, then ask the generation's fork server for a worker.

    Answered by the message WorkerForked, WorkerNotForked or Vetoed.
    """

    worker: WorkerHandle


@dataclass(frozen=True)
class SetStop:
    """Write a slot's stop word."""

    slot: int
    word: Stop


@dataclass(frozen=True)
class SetOrder:
    """On the scoreboard; the signal COMMAND tells the worker to look."""

    slot: int
    word: Order
    execution_id: str


@dataclass(frozen=True)
class SignalChild:
    """Signal a worker or a steward that is the arbiter's own child: its fork server is gone."""

    pid: int
    signum: int


@dataclass(frozen=True)
class KillGroup:
    """SIGKILL an own child's process group, and what a job of the slot's worker has started."""

    slot: int
    pid: int


@dataclass(frozen=True)
class ClearStewardStatus:
    """Take off the scoreboard what a steward is said to have written and none can have."""


@dataclass(frozen=True)
class KeepDeaths:
    """They will not be recovered by this arbiter: keep them for the next start."""

    deaths: tuple[Death, ...]


@dataclass(frozen=True)
class LoadConfig:
    """Read file, environment, flags and plugins again; answered by ConfigLoaded."""

    generation: int  # the one that will use it
    difference: int  # of the count, against the configured one: to plan for


@dataclass(frozen=True)
class DiscardConfig:
    generation: int


@dataclass(frozen=True)
class Promote:
    """The configuration and plugins of this generation are in force from here on; answered by
    Promoted."""

    generation: int
    reason: str  # reload, re-exec
    count: int  # of workers that there shall be from here on


@dataclass(frozen=True)
class AskPlan:
    """Ask `choose_queues` for 1..count; answered by Planned."""

    count: int


@dataclass(frozen=True)
class AskStuck:
    """Ask `worker_stuck`; answered by Judged."""

    worker: WorkerHandle
    overdue: float  # seconds
    attempt: int


@dataclass(frozen=True)
class TellExited:
    """The hook `worker_exited`."""

    worker: WorkerHandle
    exit: Exit


@dataclass(frozen=True)
class TellReady:
    """The hook `arbiter_ready`, and the process that waits for a daemon to come up."""

    reason: str


@dataclass(frozen=True)
class Announce:
    """Tell the process that waits for a daemon that it is up, though not ready: only Redis is
    missing."""

    note: str


@dataclass(frozen=True)
class TellStopping:
    """The hook `arbiter_stopping`."""

    graceful: bool


@dataclass(frozen=True)
class CheckExec:
    """Run `before_exec` and `--check` for a re-exec; answered by ExecChecked."""


@dataclass(frozen=True)
class Exec:
    """Replace the process image; the new one begins with Resumed."""


@dataclass(frozen=True)
class Finish:
    """Everything is gone: leave with this exit code."""

    code: int
    why: str = ""  # when the code is not 0


Action = (
    Log
    | StartForkServer
    | BeginLoading
    | Send
    | KillForkServer
    | StartWorker
    | SetStop
    | SetOrder
    | SignalChild
    | KillGroup
    | ClearStewardStatus
    | KeepDeaths
    | LoadConfig
    | DiscardConfig
    | Promote
    | AskPlan
    | AskStuck
    | TellExited
    | TellReady
    | Announce
    | TellStopping
    | CheckExec
    | Exec
    | Finish
)
