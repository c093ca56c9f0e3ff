"""The channel between the arbiter and a fork server: JSON objects over a SEQPACKET socket.

Never blocks. What the socket does not take at once waits in a backlog, in order, and goes out
on `flush`. A packet is at most 64 KiB; a message that is longer (the settings with thousands of
queues) goes in several: `+` and a part of it, and the last part after `=`.
"""

from __future__ import annotations

import collections
import errno
import json
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Final, Self

from resqued import signals

LIMIT: Final = 64 * 1024
"""Bytes of one packet."""

LONGEST: Final = 64 * 2**20
"""Bytes of one message: far beyond what any settings need, and a bound for what is kept of one."""

_MORE: Final = b"+"
_LAST: Final = b"="


@dataclass(frozen=True)
class Message:
    """One packet. Subclasses are the protocol; their fields are plain JSON."""

    kinds: ClassVar[dict[str, type[Message]]] = {}
    kind: ClassVar[str] = ""

    def __init_subclass__(cls, kind: str) -> None:
        cls.kind = kind
        Message.kinds[kind] = cls

    def encode(self) -> bytes:
        return json.dumps({"kind": self.kind, **asdict(self)}).encode()

    @staticmethod
    def decode(raw: bytes) -> Message:
        """Raises ValueError for a packet that this version does not know."""
        plain = json.loads(raw)
        cls = Message.kinds.get(plain.pop("kind", ""))
        if cls is None:
            raise ValueError(f"unknown packet on the channel: {raw[:80]!r}")
        known = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in plain.items() if name in known})


# To the fork server. The steward, too, asks it to recover.


@dataclass(frozen=True)
class Begin(Message, kind="begin"):
    protocol: int
    settings: dict[str, Any]  # the effective Config, as_plain()
    identity: str  # the arbiter's, for all times


@dataclass(frozen=True)
class Fork(Message, kind="fork"):
    slot: int
    name: str
    serial: int
    queues: list[str]
    trial: bool = False


@dataclass(frozen=True)
class Signal(Message, kind="signal"):
    slot: int
    pid: int
    signum: int
    group: bool = False  # the worker's whole process group


@dataclass(frozen=True)
class ForkSteward(Message, kind="fork_steward"):
    serial: int


@dataclass(frozen=True)
class SignalSteward(Message, kind="signal_steward"):
    serial: int
    signum: int


@dataclass(frozen=True)
class Reopen(Message, kind="reopen"):
    pass


@dataclass(frozen=True)
class Recover(Message, kind="recover"):
    """Put right in Redis what a dead worker left behind; one short-lived child does it."""

    slot: int
    status: int  # as os.wait4 gives it
    record: dict[str, Any]
    queues: list[str]
    interrupted: bool  # we stopped it: its job goes back, it does not fail
    reason: str = ""  # for the log and the job's failure, e.g. "stuck for 61 s"
    rusage: dict[str, float] = field(default_factory=dict)
    owner: str = ""  # as Redis names it; empty: a worker of this arbiter
    ours: bool = True  # the arbiter asks, and waits for the verdict; else the steward does


@dataclass(frozen=True)
class Retire(Message, kind="retire"):
    """Fork nothing more; leave when the last child has gone."""


# From it.


@dataclass(frozen=True)
class Hello(Message, kind="hello"):
    protocol: int
    pid: int


@dataclass(frozen=True)
class Ready(Message, kind="ready"):
    pass


@dataclass(frozen=True)
class Failed(Message, kind="failed"):
    reason: str  # one line
    traceback: str = ""

    def cut(self) -> Failed:
        """The head of the reason and the tail of the traceback: enough for a log."""
        tail = self.traceback[-LIMIT:]
        return Failed(self.reason[:2000], f"... {tail}" if tail != self.traceback else tail)


@dataclass(frozen=True)
class Forked(Message, kind="forked"):
    slot: int
    serial: int
    pid: int


@dataclass(frozen=True)
class ForkFailed(Message, kind="fork_failed"):
    slot: int
    serial: int
    errno: int


@dataclass(frozen=True)
class Vetoed(Message, kind="vetoed"):
    slot: int
    serial: int
    reason: str
    retry_after: float


@dataclass(frozen=True)
class Exited(Message, kind="exited"):
    slot: int
    serial: int
    pid: int
    status: int  # as os.wait4 gives it
    rusage: dict[str, float]
    record: dict[str, Any]


@dataclass(frozen=True)
class StewardForked(Message, kind="steward_forked"):
    serial: int
    pid: int  # 0: there was no process to be had


@dataclass(frozen=True)
class StewardExited(Message, kind="steward_exited"):
    serial: int
    status: int  # as os.wait4 gives it


@dataclass(frozen=True)
class Commanded(Message, kind="commanded"):
    """The steward has heard of a command for a worker; passed on by the fork server."""

    slot: int
    serial: int
    word: str  # shutdown, stop, kill
    execution_id: str  # that the worker has in hand


@dataclass(frozen=True)
class Recovered(Message, kind="recovered"):
    slot: int
    name: str  # the dead worker's
    verdict: str  # requeued, failed, retried, clean, nothing; empty: it did not succeed, ask again


_NOT_OURS: Final = (errno.EBADF, errno.ENOTSOCK, errno.ENOTCONN)
"""What a socket says whose descriptor somebody has closed, and perhaps used again."""


class Closed(Exception):
    """The other end is gone."""


class Channel:
    """One end of the socket pair."""

    def __init__(
        self, sock: socket.socket, backlog: Iterable[str] = (), received: str = ""
    ) -> None:
        """backlog, received: what the same end had not sent, and not received in full, before a
        re-exec."""
        sock.setblocking(False)
        self.socket = sock
        self._is = signals.identity(sock.fileno())
        self._backlog = collections.deque(text.encode() for text in backlog)
        self._received = bytearray(received.encode())

    @classmethod
    def pair(cls) -> tuple[Self, socket.socket]:
        """Our end, and the socket to hand to a fork server."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), theirs

    @property
    def backlog(self) -> list[str]:
        """Packets not sent yet, oldest first; a re-exec hands them over."""
        return [raw.decode() for raw in self._backlog]

    @property
    def received(self) -> str:
        """The parts of a message whose last part has not arrived; a re-exec hands them over."""
        return self._received.decode()

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, message: Message) -> None:
        """Send, or keep for `flush`. A closed other end is not told here but by `receive`."""
        raw = message.encode()
        if len(raw) > LONGEST:
            raise ValueError(f"a {message.kind} message of {len(raw)} bytes; at most {LONGEST}")
        self._backlog.extend(_packets(raw))
        self.flush()

    def flush(self) -> bool:
        """Send what waits; True when nothing is left."""
        while self._backlog:
            try:
                self.socket.send(self._backlog[0])
            except BlockingIOError:
                return False
            except OSError as error:
                if isinstance(error, ConnectionError) or error.errno in _NOT_OURS:
                    self._backlog.clear()  # `receive` says Closed
                    return True
                raise
            self._backlog.popleft()
        return True

    def receive(self) -> Message | None:
        """The next message, or None when there is none now. Raises Closed, ValueError."""
        while True:
            try:
                raw = self.socket.recv(LIMIT)
            except BlockingIOError:
                return None
            except OSError as error:
                if isinstance(error, ConnectionError) or error.errno in _NOT_OURS:
                    raise Closed from None
                raise
            if not raw:
                raise Closed
            if raw[:1] not in (_MORE, _LAST):
                return Message.decode(raw)
            self._received += raw[1:]
            if len(self._received) > LONGEST:
                self._received.clear()
                raise ValueError(f"a message of more than {LONGEST} bytes on the channel")
            if raw[:1] == _LAST:
                whole = bytes(self._received)
                self._received.clear()
                return Message.decode(whole)

    @property
    def is_ours(self) -> bool:
        """Whether the descriptor still leads to the socket that it was made for."""
        return signals.identity(self.socket.fileno()) == self._is

    def close(self) -> None:
        if self.is_ours:
            self.socket.close()
        else:
            self.socket.detach()  # its number may be somebody else's by now


def _packets(raw: bytes) -> list[bytes]:
    """A message, which is ASCII and begins with `{`, as packets."""
    if len(raw) <= LIMIT:
        return [raw]
    size = LIMIT - 1
    parts = [raw[at : at + size] for at in range(0, len(raw), size)]
    return [*(_MORE + part for part in parts[:-1]), _LAST + parts[-1]]
