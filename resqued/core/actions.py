"""The core's actions. The shell (`arbiter.effects`) executes them in order, and decides nothing.

A failed action comes back as the event `ActionFailed`, and the rest of its list is executed all the
same. So an action that depends on another is never in one list with it: it is decided when the
other has been answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from resqued.core.state import WorkerHandle
from resqued.death import Death
from resqued.log_events import LogEvent
from resqued.messages import (
    ForkSteward,
    Recover,
    Retire,
    RunDuties,
    SignalSteward,
    SignalWorker,
)
from resqued.scoreboard import Order, Stop, StopCause
from resqued.snapshots import Exit

Sendable = SignalWorker | ForkSteward | SignalSteward | RunDuties | Recover | Retire
"""Messages to a fork server that the core makes itself."""


@dataclass(frozen=True)
class Log:
    """A line of the log. fields: those of the event (`log_events`)."""

    level: str
    text: str
    event: LogEvent | None = None
    fields: Mapping[str, Any] = field(default_factory=dict, hash=False)


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
    """Write a slot's stop word, and why."""

    slot: int
    word: Stop
    cause: StopCause = StopCause.NONE


@dataclass(frozen=True)
class SetOrder:
    """Write a slot's order; the worker reads it on the signal COMMAND."""

    slot: int
    word: Order
    execution_id: str
    reason: str = ""  # for the job's failure


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
    """Clear a steward's status on the scoreboard that no steward can have written."""


@dataclass(frozen=True)
class KeepDeaths:
    """Keep deaths that this arbiter will not recover for the next start."""

    deaths: tuple[Death, ...]


@dataclass(frozen=True)
class LoadConfig:
    """Read file, environment, flags and plugins again; answered by ConfigLoaded."""

    generation: int  # the one that will use it
    difference: int  # to add to the configured count of workers


@dataclass(frozen=True)
class DiscardConfig:
    generation: int


@dataclass(frozen=True)
class Promote:
    """Put the configuration and plugins of this generation in force; answered by Promoted."""

    generation: int
    reason: str  # reload, re-exec
    count: int  # the target from here on


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
    """Call the hook `worker_exited`."""

    worker: WorkerHandle
    exit: Exit


@dataclass(frozen=True)
class TellStarted:
    """Call the hook `worker_started`."""

    worker: WorkerHandle


@dataclass(frozen=True)
class TellLost:
    """Call the hook `job_lost`: of a dead worker's job, or of the job of a living worker's child.

    death: as recovered, for a worker that is gone.
    """

    worker: WorkerHandle | Death
    job_id: str
    verdict: str


@dataclass(frozen=True)
class TellGenerationFailed:
    """Call the hook `generation_failed`, while its configuration is not discarded yet."""

    generation: int
    pid: int | None
    reason: str


@dataclass(frozen=True)
class TellReady:
    """Call the hook `arbiter_ready`, and release the process that waits for the daemon."""

    reason: str
    error: str | None = None  # of a reload that failed


@dataclass(frozen=True)
class Announce:
    """Release the process that waits for the daemon, although Redis does not answer."""

    note: str


@dataclass(frozen=True)
class TellStopping:
    """Call the hook `arbiter_stopping`."""

    graceful: bool


@dataclass(frozen=True)
class CheckExec:
    """Run `before_exec` and `--check` for a re-exec; answered by ExecChecked."""


@dataclass(frozen=True)
class Exec:
    """Replace the process image; the new one begins with Resumed."""


@dataclass(frozen=True)
class Answer:
    """End a plugin's request. refused: why; None: it is done."""

    ticket: int
    refused: str | None = None


@dataclass(frozen=True)
class LookAgain:
    """Have idle workers ask `order_queues` again."""


@dataclass(frozen=True)
class ReopenLogs:
    """Have every process reopen its logs."""


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
    | TellStarted
    | TellExited
    | TellLost
    | TellGenerationFailed
    | TellReady
    | Announce
    | TellStopping
    | CheckExec
    | Exec
    | Answer
    | LookAgain
    | ReopenLogs
    | Finish
)
