"""The ear: one connection on which a worker hears of pushes to its queues and of commands.

Reading it never blocks. The kernel sends COMMAND when something arrives (O_ASYNC), so that a
command reaches a job in hand without a thread in the worker: threads and the forks of jobs do
not go together.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import json
import os
import select
import socket
import time
from collections.abc import Sequence
from typing import Any, Final

import redis
from loguru import logger
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisError

from resqued.worker.connecting import ANSWER
from resqued.worker.interrupting import COMMAND
from resqued.worker.resp import Push, Reader, Refused, encode

_AGAIN: Final = 5.0  # seconds between two attempts to connect


class Ear:
    """One worker's ear. Not connected until `open`; heard things wait in `commands`, `pushed`."""

    def __init__(self, connection: redis.Redis, channel: str) -> None:
        self.tracking = False
        """Whether Redis tells of pushes; if not, look often."""
        self.pushed = False
        """A key that `watch` named has changed."""
        self.commands: collections.deque[dict[str, Any]] = collections.deque()
        self._client = connection
        self._channel = channel
        self._link: Any = None  # redis-py's connection; it has done TLS, AUTH and SELECT for us
        self._socket: socket.socket | None = None
        self._reader = Reader()
        self._replies: collections.deque[Any] = collections.deque()
        self._reading = False
        self._unread = False
        self._tried = 0.0
        self._told = False

    @property
    def connected(self) -> bool:
        return self._socket is not None

    def open(self) -> None:
        """Connect if it is not, and it has not been tried just now. Logs once what it cannot have.

        Without RESP3 or CLIENT TRACKING, behind a proxy or an ACL, `tracking` stays False.
        """
        if self.connected or time.monotonic() < self._tried + _AGAIN:
            return
        self._tried = time.monotonic()
        for protocol in (3, 2):
            with contextlib.suppress(RedisError, OSError):
                self._connect(protocol)
                break
        else:
            return
        refused = self._ask("SUBSCRIBE", self._channel)
        if isinstance(refused, Refused):
            self._tell(f"redis does not let us subscribe, so stop-job does not work: {refused}")
        if protocol == 3:
            refused = self._ask("CLIENT", "TRACKING", "ON")
            self.tracking = self.connected and not isinstance(refused, Refused)
        if self.connected and not self.tracking:
            self._tell("redis does not tell of pushes here; looking twice a second instead")

    def _tell(self, text: str) -> None:
        if not self._told:
            logger.warning(text)
        self._told = True

    def _connect(self, protocol: int) -> None:
        pool = self._client.connection_pool
        link = pool.connection_class(**{**pool.connection_kwargs, "protocol": protocol})
        link.connect()
        sock: socket.socket = link._sock
        sock.setblocking(False)
        flags = fcntl.fcntl(sock, fcntl.F_GETFL)
        fcntl.fcntl(sock, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(sock, fcntl.F_SETSIG, COMMAND)
        fcntl.fcntl(sock, fcntl.F_SETFL, flags | os.O_ASYNC)
        self._link, self._socket, self._reader = link, sock, Reader()
        self._replies.clear()

    def close(self) -> None:
        """Hang up, also when the other end already has."""
        link, self._link, self._socket, self.tracking = self._link, None, None, False
        if link is not None:
            with contextlib.suppress(OSError):
                link._sock.close()
            link._sock = None

    def abandon(self) -> None:
        """Hang up without closing the descriptor, which may be somebody else's by now."""
        if self._link is not None and self._link._sock is not None:
            self._link._sock.detach()
        self.close()

    def watch(self, lists: Sequence[str], of: tuple[str, int] | None = None) -> bool:
        """Hear of the next change of each of these lists; True if one of them is not empty.

        of: a set that matters too and how many members it should have; True if it has not.
        Raises ConnectionError when Redis did not answer.
        """
        changed = of is not None and self._count("SCARD", of[0]) != of[1]
        return bool(lists and self._count("EXISTS", *lists)) or changed

    def _count(self, *words: str) -> int:
        answer = self._ask(*words)
        if isinstance(answer, int):
            return answer
        if answer is None:
            raise Disconnected("the connection that hears of pushes is closed")
        self._tell(f"redis does not let us watch our queues: {answer}")
        self.tracking = False
        return 0

    def read(self) -> None:
        """Take in what has arrived. Safe in a signal handler, also in one that interrupts it."""
        if self._reading:
            self._unread = True
            return
        self._reading = True
        try:
            self._unread = True
            while self._unread:
                self._unread = False
                self._read_all()
        finally:
            self._reading = False

    def _read_all(self) -> None:
        while self._socket is not None:
            try:
                data = self._socket.recv(65536)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:  # ssl.SSLWantReadError is one; it has no errno of ours
                if type(error).__name__ in ("SSLWantReadError", "SSLWantWriteError"):
                    return
                data = b""
            if not data:
                self._socket, self.tracking = None, False
                self.pushed = True  # whoever waits for a push must not go on waiting
                return
            try:
                for value in self._reader.feed(data):
                    self._sort(value)
            except ValueError as error:
                self._tell(f"what redis says is no RESP: {error}")
                self.close()

    def _sort(self, value: Any) -> None:
        kind = value[0] if isinstance(value, list) and value else None
        if kind == b"invalidate":
            self.pushed = True
        elif kind == b"message":
            with contextlib.suppress(ValueError, TypeError):
                self.commands.append(json.loads(value[2]))
        elif not isinstance(value, Push) or kind == b"subscribe":
            self._replies.append(value)

    def _ask(self, *words: str | int) -> Any:
        """A command and its reply; None, and closed, when there is none in time."""
        if self._socket is None:
            return None
        limit = time.monotonic() + ANSWER
        self._replies.clear()
        # The handler must not take the reply away between our look at it and our sleep.
        self._reading = True
        try:
            self._socket.settimeout(ANSWER)
            self._socket.sendall(encode(*words))
            self._socket.setblocking(False)
            while True:
                self._read_all()
                if self._replies:
                    return self._replies.popleft()
                left = limit - time.monotonic()
                if self._socket is None or left <= 0:
                    break
                select.select([self._socket], [], [], left)
        except OSError:
            pass
        finally:
            self._reading = False
        self.close()
        return None
