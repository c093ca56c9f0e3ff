"""The events of the core. The shell makes them; the core answers with actions.

A message of a fork server is the event `Heard`. A failed action comes back as `ActionFailed`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from resqued.core.actions import Action
from resqued.core.state import Policy
from resqued.core.verbs import Verb
from resqued.messages import FromForkServer
from resqued.plan import Plan
from resqued.scoreboard import Record, StewardStatus
from resqued.verdicts import Verdict


@dataclass(frozen=True)
class Signalled:
    """A signal to the arbiter, by its name without SIG."""

    name: str


@dataclass(frozen=True)
class Asked:
    """A plugin, or resquedctl, asks for a verb; answered by the action Answer with its ticket.

    source: who asks, for the log.
    """

    ticket: int
    verb: Verb
    number: int = 0  # its argument, if it has one
    source: str = "a plugin"


@dataclass(frozen=True)
class Heard:
    """A fork server has sent a message, or the arbiter has reaped a child in its place."""

    generation: int
    message: FromForkServer


@dataclass(frozen=True)
class ActionFailed:
    """An action was not done, or only in part."""

    action: Action
    reason: str


@dataclass(frozen=True)
class Started:
    """The answer to StartForkServer."""

    generation: int
    pid: int


@dataclass(frozen=True)
class ForkServerGone:
    """A fork server has ended. The shell finds the children that it forked but did not report.

    workers: pids on the records of slots, by slot. stewards: pids by serial.
    """

    generation: int
    status: int  # as os.waitpid gives it
    workers: dict[int, int] = field(default_factory=dict)
    stewards: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ConfigLoaded:
    """The answer to LoadConfig: the configuration for a new generation is valid."""

    generation: int
    policy: Policy
    plan: Plan


@dataclass(frozen=True)
class Promoted:
    """The answer to Promote, with its reason and count."""

    reason: str
    count: int


@dataclass(frozen=True)
class Planned:
    """The answer to AskPlan."""

    plan: Plan


@dataclass(frozen=True)
class Counted:
    """The hook `worker_count` asks for so many workers."""

    count: int


@dataclass(frozen=True)
class Judged:
    """The answer to AskStuck. None: no plugin has judged."""

    slot: int
    serial: int
    verdict: Verdict | None


@dataclass(frozen=True)
class ExecChecked:
    """The answer to CheckExec: the re-exec may go on."""


@dataclass(frozen=True)
class Resumed:
    """First event of a new image after a re-exec."""


@dataclass(frozen=True)
class Turn:
    """A turn of the loop begins: what the records of all workers say now."""

    records: dict[int, Record]
    steward: StewardStatus = field(default_factory=StewardStatus)  # as the steward wrote it
    frozen: frozenset[int] = frozenset()  # slots whose process is stopped (SIGSTOP)
    overslept: bool = False  # the last wait took far longer than asked: a suspend, or a STOP


Event = (
    Signalled
    | Asked
    | Heard
    | ActionFailed
    | Started
    | ForkServerGone
    | ConfigLoaded
    | Promoted
    | Planned
    | Counted
    | Judged
    | ExecChecked
    | Resumed
    | Turn
)
