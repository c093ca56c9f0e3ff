"""The other side of the control socket: one connection to one arbiter. Used by `resquedctl`."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, Self

from resqued.control import packets
from resqued.control.packets import BadPacket, ControlAnswer, ControlRequest
from resqued.ownership import user_name

_CREDENTIALS: Final = struct.Struct("iII")

CONNECT: Final = 10.0
"""Seconds to connect, and for the first packet of an answer."""


PERIOD: Final = 0.5
"""Seconds between two calls of what is to be done meanwhile."""


class NotReached(Exception):
    """The arbiter cannot be asked. The message names its socket and the reason."""


class TookTooLong(Exception):
    """There was no last packet in time."""


class Connection:
    """A connection. owner: the uid that the arbiter must have. Raises NotReached."""

    def __init__(self, path: str, owner: int | None = None) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._connect()
        except OSError as error:
            self._socket.close()
            raise NotReached(f"{path}: {error.strerror or error}") from error
        raw = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(raw)
        if uid != (os.geteuid() if owner is None else owner):
            self._socket.close()
            raise NotReached(f"{path}: {user_name(uid)} listens there; nothing was sent")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def ask(
        self,
        request: ControlRequest,
        timeout: float | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> Iterator[ControlAnswer]:
        """Send a request; each packet of its answer. timeout: seconds until the last one; None: no
        limit. meanwhile: called twice a second while there is none. Raises NotReached, also when
        the arbiter closes the connection, TookTooLong, and ValueError for a request that is too
        long."""
        self.begin(request)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            answer = self._receive(deadline, meanwhile)
            yield answer
            if answer.last:
                return

    def _connect(self) -> None:
        """Try again while too many others wait for the arbiter to accept. Raises OSError."""
        deadline = time.monotonic() + CONNECT
        self._socket.setblocking(False)
        while True:
            try:
                self._socket.connect(self.path)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                self._socket.settimeout(CONNECT)
                return

    def begin(self, request: ControlRequest) -> None:
        """Send a request whose answer `come` reads. Raises NotReached, ValueError."""
        try:
            self._socket.send(request.encode(), socket.MSG_NOSIGNAL)
        except OSError as error:
            raise NotReached(f"{self.path}: {error.strerror or error}") from error

    def come(self) -> Iterator[ControlAnswer]:
        """The packets that have come by now; never waits. Raises NotReached."""
        with contextlib.suppress(TookTooLong):
            while True:
                yield self._received(0.0)

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def _receive(
        self, deadline: float | None, meanwhile: Callable[[], None] | None
    ) -> ControlAnswer:
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TookTooLong
            if meanwhile is None:
                return self._received(left)
            try:
                return self._received(PERIOD if left is None else min(left, PERIOD))
            except TookTooLong:
                meanwhile()

    def _received(self, timeout: float | None) -> ControlAnswer:
        """One packet. Raises TookTooLong if there is none in so many seconds."""
        self._socket.settimeout(timeout)
        try:
            raw = self._socket.recv(packets.LONGEST + 1)
        except (TimeoutError, BlockingIOError) as error:
            raise TookTooLong from error
        except OSError as error:
            raise NotReached(f"{self.path}: {error.strerror or error}") from error
        if not raw:
            raise NotReached(f"{self.path}: the arbiter has closed the connection")
        try:
            return ControlAnswer.decode(raw)
        except BadPacket as error:
            raise NotReached(f"{self.path}: {error}") from error
