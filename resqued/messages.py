"""The messages between the arbiter, its fork servers and their stewards: types and packing.

A message is a frozen dataclass whose fields are plain JSON. `Begin` and `Hello` carry the version
of this protocol, which is that of the scoreboard's layout too (`scoreboard.VERSION`). They are sent
by `resqued.channel`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self, TypeGuard, get_args

from resqued.death import Death

_LONGEST_REASON: Final = 64 * 1024  # characters; there may be an error on each line
_LONGEST_TRACEBACK: Final = 64 * 1024  # characters

TOLD_TO_LEAVE: Final = 15
"""Exit status of a fork server that a signal told to leave while it loaded. The arbiter tells it so
from one that the application has ended."""


@dataclass(frozen=True)
class Inherited:
    """What a fork server gets besides fds 0, 1 and 2: descriptor numbers, and who started it.

    It is passed as `name=value` words in argv, so it has no settings, which may be secret.
    """

    generation: int
    arbiter: int  # pid
    channel: int
    scoreboard: int
    doorbell: int
    dumps: int
    log: int
    cwd: str

    def as_words(self) -> list[str]:
        return [f"{name}={value}" for name, value in asdict(self).items()]

    @classmethod
    def from_words(cls, words: list[str]) -> Self:
        """The inverse of `as_words`. Raises ValueError, KeyError for other words."""
        values = dict(word.split("=", 1) for word in words)
        cwd = values.pop("cwd")
        return cls(**{name: int(value) for name, value in values.items()}, cwd=cwd)

    @property
    def descriptors(self) -> frozenset[int]:
        return frozenset({self.channel, self.scoreboard, self.doorbell, self.dumps, self.log})


# From the arbiter to a fork server.


@dataclass(frozen=True)
class Begin:
    """The fork server may load plugins and the application."""

    protocol: int
    settings: dict[str, Any]  # the effective Config, as_plain()
    identity: str  # of the arbiter, unique for all times
    reload: bool = False  # another generation is in service: this one fails where it may not suit


@dataclass(frozen=True)
class ForkWorker:
    """Answered by WorkerForked, WorkerNotForked or Vetoed."""

    slot: int
    name: str
    serial: int
    queues: list[str]
    trial: bool = False


@dataclass(frozen=True)
class SignalWorker:
    slot: int
    pid: int
    signum: int
    group: bool = False  # the worker's whole process group


@dataclass(frozen=True)
class ForkSteward:
    """Answered by StewardForked or StewardNotForked."""

    serial: int


@dataclass(frozen=True)
class SignalSteward:
    serial: int
    signum: int


@dataclass(frozen=True)
class RunDuties:
    """Whether the fork server is to have a duties process, if its plugins have duties."""

    wanted: bool


@dataclass(frozen=True)
class Reopen:
    """Reopen the log files, and have all children do so."""


@dataclass(frozen=True)
class Recover:
    """Recover in Redis what a dead worker left behind, in one short-lived child.

    Sent by the arbiter, which gets the answer Recovered, and by the steward, which gets none.
    """

    death: Death
    answer: bool = True

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        return cls(**{**plain, "death": Death.from_plain(plain["death"])})


@dataclass(frozen=True)
class Retire:
    """Fork nothing more; leave when the last child has gone."""


# From a fork server to the arbiter.


@dataclass(frozen=True)
class Hello:
    """The fork server's interpreter has started."""

    protocol: int
    pid: int


@dataclass(frozen=True)
class Calling:
    """Code that is not resqued's own begins to run in the fork server, and may end it.

    what: names it, to follow "during"; empty once it has returned.
    """

    what: str


@dataclass(frozen=True)
class Ready:
    """The application is loaded."""


@dataclass(frozen=True)
class LoadFailed:
    """The application cannot be loaded; the fork server leaves."""

    reason: str  # the first line says it; others are details
    traceback: str = ""

    def cut(self) -> LoadFailed:
        """The head of the reason and the tail of the traceback: enough for a log."""
        tail = self.traceback[-_LONGEST_TRACEBACK:]
        trace = f"... {tail}" if tail != self.traceback else tail
        return LoadFailed(self.reason[:_LONGEST_REASON], trace)


@dataclass(frozen=True)
class WorkerForked:
    slot: int
    serial: int
    pid: int


@dataclass(frozen=True)
class WorkerNotForked:
    slot: int
    serial: int
    reason: str
    leaving: bool = False  # the fork server leaves, and the arbiter has not told it to


@dataclass(frozen=True)
class Vetoed:
    """A plugin's `before_fork` has put the fork off."""

    slot: int
    serial: int
    reason: str
    retry_after: float  # seconds


@dataclass(frozen=True)
class WorkerExited:
    serial: int
    pid: int
    death: Death

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        return cls(**{**plain, "death": Death.from_plain(plain["death"])})


@dataclass(frozen=True)
class StewardForked:
    serial: int
    pid: int


@dataclass(frozen=True)
class StewardNotForked:
    serial: int
    reason: str


@dataclass(frozen=True)
class StewardExited:
    serial: int
    status: int  # as os.wait4 gives it


@dataclass(frozen=True)
class Commanded:
    """A command for a worker (`rq.command`). From the steward, through its fork server."""

    slot: int
    serial: int
    word: str  # shutdown, stop, kill
    execution_id: str  # of the worker's job


@dataclass(frozen=True)
class Recovered:
    slot: int
    name: str  # `Death.name`
    verdict: str  # requeued, failed, retried, clean, nothing; empty: it failed, ask again


ToForkServer = (
    Begin
    | ForkWorker
    | SignalWorker
    | ForkSteward
    | SignalSteward
    | RunDuties
    | Reopen
    | Recover
    | Retire
)
FromForkServer = (
    Hello
    | Calling
    | Ready
    | LoadFailed
    | WorkerForked
    | WorkerNotForked
    | Vetoed
    | WorkerExited
    | StewardForked
    | StewardNotForked
    | StewardExited
    | Commanded
    | Recovered
)
FromSteward = Commanded | Recover
Message = ToForkServer | FromForkServer

_KINDS: Final = {cls.__name__: cls for cls in get_args(Message)}
_SENT_BY_FORK_SERVERS: Final = get_args(FromForkServer)


def encode(message: Message) -> bytes:
    """A message as JSON, in ASCII; it begins with `{`."""
    return json.dumps({"kind": type(message).__name__, **asdict(message)}).encode()


def decode(raw: bytes) -> Message:
    """The inverse of `encode`. Raises ValueError, KeyError or TypeError for what this version does
    not know."""
    plain = json.loads(raw)
    cls: Any = _KINDS.get(plain.pop("kind", ""))
    if cls is None:
        raise ValueError(f"unknown packet on the channel: {raw[:80]!r}")
    if hasattr(cls, "from_plain"):
        return cls.from_plain(plain)  # type: ignore[no-any-return]
    known = {field.name for field in fields(cls)}
    return cls(**{name: value for name, value in plain.items() if name in known})  # type: ignore[no-any-return]


def is_from_fork_server(message: Message) -> TypeGuard[FromForkServer]:
    """Whether a fork server may send this to the arbiter."""
    return isinstance(message, _SENT_BY_FORK_SERVERS)
