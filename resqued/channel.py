"""The channel between the arbiter and a fork server: messages over a SEQPACKET socket.

The messages themselves are in `resqued.messages`. Never blocks: what the socket does not take at
once waits in a backlog, in order, and goes out on `flush`. A packet is at most 64 KiB; a longer
message (the settings with thousands of queues) goes in several: `+` and a part of it, and the last
part after `=`.
"""

from __future__ import annotations

import collections
import errno
import socket
from collections.abc import Iterable
from typing import Final, Self

from resqued import linux, messages
from resqued.messages import Message

LIMIT: Final = 64 * 1024
"""Bytes of one packet."""

LONGEST: Final = 64 * 2**20
"""Bytes of one message: far beyond what any settings need, and a bound for what is kept of one."""

_MORE: Final = b"+"
_LAST: Final = b"="

_CLOSED_HERE: Final = (errno.EBADF, errno.ENOTSOCK, errno.ENOTCONN)
"""Errors of a socket whose descriptor was closed by other code, and perhaps used again."""


class Closed(Exception):
    """The other end is closed."""


class Channel:
    """One end of the socket pair."""

    def __init__(
        self, sock: socket.socket, backlog: Iterable[str] = (), received: str = ""
    ) -> None:
        """backlog, received: what the same end had not sent, and not received in full, before a
        re-exec."""
        sock.setblocking(False)
        self.socket = sock
        self._is = linux.identity(sock.fileno())
        self._backlog = collections.deque(text.encode() for text in backlog)
        self._received = bytearray(received.encode())
        self._was_reset = False

    @classmethod
    def pair(cls) -> tuple[Self, socket.socket]:
        """This end, and the socket to hand to the other process."""
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(near), far

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
        """Send, or keep for `flush`. A closed other end is reported by `receive` only."""
        raw = messages.encode(message)
        if len(raw) > LONGEST:
            name = type(message).__name__
            raise ValueError(f"a {name} message of {len(raw)} bytes; at most {LONGEST}")
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
                if isinstance(error, ConnectionError) or error.errno in _CLOSED_HERE:
                    self._backlog.clear()  # `receive` says Closed
                    return True
                raise
            self._backlog.popleft()
        return True

    def receive(self) -> Message | None:
        """The next message, or None when there is none now.

        Raises Closed; ValueError, KeyError or TypeError for what this version does not know.
        """
        while True:
            try:
                raw = self.socket.recv(LIMIT)
            except BlockingIOError:
                return None
            except OSError as error:
                if isinstance(error, ConnectionResetError) and not self._was_reset:
                    # It ended without reading all: the kernel says so before its last messages.
                    self._was_reset = True
                    continue
                if isinstance(error, ConnectionError) or error.errno in _CLOSED_HERE:
                    raise Closed from None
                raise
            if not raw:
                raise Closed
            if raw[:1] not in (_MORE, _LAST):
                return messages.decode(raw)
            self._received += raw[1:]
            if len(self._received) > LONGEST:
                self._received.clear()
                raise ValueError(f"a message of more than {LONGEST} bytes on the channel")
            if raw[:1] == _LAST:
                whole = bytes(self._received)
                self._received.clear()
                return messages.decode(whole)

    @property
    def is_intact(self) -> bool:
        """Whether the descriptor still leads to the socket that it was made for."""
        return linux.identity(self.socket.fileno()) == self._is

    def close(self) -> None:
        if self.is_intact:
            self.socket.close()
        else:
            self.socket.detach()  # other code may use its number by now


def _packets(raw: bytes) -> list[bytes]:
    """A message, which is ASCII and begins with `{`, as packets."""
    if len(raw) <= LIMIT:
        return [raw]
    size = LIMIT - 1
    parts = [raw[at : at + size] for at in range(0, len(raw), size)]
    return [*(_MORE + part for part in parts[:-1]), _LAST + parts[-1]]
