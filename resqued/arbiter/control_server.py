"""Serves the control socket from the arbiter's loop. Nothing blocks, whatever a client does."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from resqued import logs
from resqued.arbiter.recent import RecentStream
from resqued.control import packets
from resqued.control.packets import BadPacket, ControlAnswer, ControlRequest
from resqued.linux import identity

_CLIENTS: Final = 64
"""At most so many at once; then the oldest that waits for nothing is dropped."""

_BACKLOG: Final = 2**20
"""Bytes that may wait for a client, until it is dropped."""

_A_TURN: Final = 32
"""Requests that are read in one turn of the loop."""

_CREDENTIALS: Final = struct.Struct("iII")


class Pending(Protocol):
    """A request that the arbiter is doing (`inbox.PostedRequest`)."""

    @property
    def done(self) -> bool: ...

    @property
    def refused(self) -> str | None: ...


class Refusal(Exception):
    """A request that is answered at once with the reason. kind: REFUSED or WRONG."""

    def __init__(self, reason: str, kind: str = packets.WRONG) -> None:
        super().__init__(reason)
        self.kind = kind


Act = Callable[[ControlRequest], "Pending | RecentStream | dict[str, Any]"]
"""Begins what a request asks for, or answers it with facts. Raises Refusal."""


class ControlClient:
    """One connection. It has at most one request that is not answered yet."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.outgoing: deque[bytes] = deque()
        self.pending: Pending | None = None
        self.stream: RecentStream | None = None
        self.waits = False

    @property
    def is_answered(self) -> bool:
        """Whether it has no request open, and may make another."""
        return self.pending is None and self.stream is None

    @property
    def wanted(self) -> int:
        """What to poll for. An end of the connection is always told."""
        reads = select.POLLIN if self.is_answered else 0
        return reads | (select.POLLOUT if self.outgoing else 0)


class ControlServer:
    """The socket and its clients. listener: None if there can be no socket.

    act: what a request does. facts: what each answer tells of the arbiter.
    """

    def __init__(
        self,
        listener: socket.socket | None,
        path: str,
        act: Act,
        facts: Callable[[], dict[str, Any]],
    ) -> None:
        self.listener = listener
        self.path = path
        self._is = identity(listener.fileno()) if listener is not None else None
        self._inode = _inode(path)
        self._act = act
        self._facts = facts
        self._clients: list[ControlClient] = []

    def polled(self) -> Iterator[tuple[int, int]]:
        """Descriptors, and what to poll each for."""
        if self.listener is not None:
            yield self.listener.fileno(), select.POLLIN
        for client in self._clients:
            yield client.connection.fileno(), client.wanted

    def read(self) -> None:
        """Accept connections, and begin what their requests ask for."""
        if self.listener is None:
            return
        self._accept()
        for client in list(self._clients):
            if not client.is_answered and _has_left(client.connection):
                self._drop(client)
                continue
            for _ in range(_A_TURN):
                if not client.is_answered or not self._read(client):
                    break

    def answer(self) -> None:
        """Answer the requests that have ended, and send what can be sent."""
        for client in list(self._clients):
            pending = client.pending
            if pending is not None:
                self._answer(client, pending)
            if client.stream is not None:
                self._tell(client, client.stream)
            self._flush(client)

    def is_intact(self) -> bool:
        """Whether the listener still is what it was: a plugin may close it."""
        return self.listener is None or identity(self.listener.fileno()) == self._is

    def forget(self) -> None:
        """The descriptors were closed by others, and their numbers may be in use again."""
        for connection in [self.listener, *(client.connection for client in self._clients)]:
            if connection is not None:
                connection.detach()
        self._clients.clear()
        self.listener = None

    def close(self) -> None:
        """Answer what is open, close all, and remove the socket if it is still this one."""
        if not self.is_intact():
            self.forget()
        self.answer()
        for client in list(self._clients):
            self._drop(client)
        if self.listener is not None:
            self.listener.close()
            if self._inode is not None and _inode(self.path) == self._inode:
                with contextlib.suppress(OSError):
                    Path(self.path).unlink()

    def _accept(self) -> None:
        assert self.listener is not None
        for _ in range(_CLIENTS):
            try:
                connection, _ = self.listener.accept()
            except OSError:  # none waits, or there are no descriptors left
                return
            connection.setblocking(False)
            if not _is_trusted(connection):
                connection.close()
                continue
            if len(self._clients) >= _CLIENTS:
                idle = [client for client in self._clients if client.is_answered]
                self._drop((idle or self._clients)[0])
            self._clients.append(ControlClient(connection))

    def _read(self, client: ControlClient) -> bool:
        """One request of a client; False when there is none, or the client is gone."""
        try:
            raw, _, flags, _ = client.connection.recvmsg(packets.LONGEST)
        except BlockingIOError:
            return False
        except OSError:
            raw, flags = b"", 0
        if not raw:
            self._drop(client)
            return False
        try:
            if flags & socket.MSG_TRUNC:
                raise Refusal(f"a request has at most {packets.LONGEST} bytes")
            request = ControlRequest.decode(raw)
            begun = self._act(request)
        except (Refusal, BadPacket) as error:
            kind = error.kind if isinstance(error, Refusal) else packets.WRONG
            self._send(client, ControlAnswer(kind, {"reason": str(error)}))
            return True
        if isinstance(begun, dict):
            self._send(client, ControlAnswer(packets.DONE, begun))
            return True
        if isinstance(begun, RecentStream):
            client.stream = begun
            return True
        client.pending, client.waits = begun, request.wait
        if request.wait:
            self._send(client, ControlAnswer(packets.ACCEPTED, self._facts(), last=False))
        return True

    def _answer(self, client: ControlClient, pending: Pending) -> None:
        if pending.refused is not None:
            answer = ControlAnswer(packets.REFUSED, {**self._facts(), "reason": pending.refused})
        elif pending.done:
            answer = ControlAnswer(packets.DONE, self._facts())
        elif not client.waits:
            answer = ControlAnswer(packets.ACCEPTED, self._facts())
        else:
            return
        client.pending = None
        self._send(client, answer)

    def _tell(self, client: ControlClient, stream: RecentStream) -> None:
        """What there is to be told now. A stream that does not follow ends with it."""
        for facts in stream.take():
            self._send(client, ControlAnswer(packets.ACCEPTED, facts, last=False))
        if not stream.follows:
            client.stream = None
            self._send(client, ControlAnswer(packets.DONE, self._facts()))

    def _send(self, client: ControlClient, answer: ControlAnswer) -> None:
        try:
            raw = answer.encode()
        except (ValueError, TypeError, RecursionError) as error:
            reason = f"the answer cannot be sent: {error}"
            raw = ControlAnswer(packets.REFUSED, {"reason": reason}).encode()
        client.outgoing.append(raw)
        if sum(map(len, client.outgoing)) > _BACKLOG:
            logs.debug("a client of the control socket does not read its answers: dropped")
            self._drop(client)

    def _flush(self, client: ControlClient) -> None:
        while client.outgoing and client in self._clients:
            try:
                client.connection.send(client.outgoing[0], socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:
                self._drop(client)
                return
            client.outgoing.popleft()

    def _drop(self, client: ControlClient) -> None:
        with contextlib.suppress(ValueError):
            self._clients.remove(client)
        client.connection.close()


def _is_trusted(connection: socket.socket) -> bool:
    """Whether the other side is the same user, or root. unix(7), SO_PEERCRED."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(raw)
    return uid in (0, os.geteuid())


def _has_left(connection: socket.socket) -> bool:
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _inode(path: str) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        status = os.lstat(path)
        return status.st_dev, status.st_ino
    return None
