"""A connection of our own, on which Redis tells of things that nobody has asked for just now.

redis-py does what it is good at, the way there: TLS, AUTH, SELECT. From then on reading never
blocks, so a loop or a signal handler can look whether something has arrived.
"""

from __future__ import annotations

import collections
import contextlib
import select
import socket
import time
from collections.abc import Sequence
from typing import Any, Final

import redis
from redis.exceptions import RedisError

from resqued.broker.resp import ErrorReply, Push, ReplyReader, encode
from resqued.broker.strict import Greeting
from resqued.logs import logger

_AGAIN: Final = 5.0  # seconds between two attempts to connect


class PushConnection:
    """One such connection. Not connected until `open`; what comes unasked waits in `pushes`.

    answer: seconds that a reply may take.
    """

    def __init__(self, connection: redis.Redis, answer: float) -> None:
        self.protocol = 0
        """Of RESP, while it is connected."""
        self.answers: list[Any] = []
        """To what was said first."""
        self.pushes: collections.deque[list[Any]] = collections.deque()
        self._client = connection
        self._answer = answer
        self._link: Any = None  # redis-py's connection
        self._socket: socket.socket | None = None
        self._reader = ReplyReader()
        self._replies: collections.deque[Any] = collections.deque()
        self._reading = False
        self._unread = False
        self._failed = 0.0
        self._logged = False

    @property
    def connected(self) -> bool:
        return self._socket is not None

    def fileno(self) -> int:
        """For select; only while it is connected."""
        assert self._socket is not None
        return self._socket.fileno()

    def open(self, *first: Sequence[str]) -> bool:
        """Connect if it is not, and an attempt has not failed just now; whether it is.

        first: commands to be sent with CLIENT SETNAME, in one round trip, where RESP3 is spoken;
        their answers are in `answers`.
        """
        if self.connected:
            return True
        if self._failed and time.monotonic() < self._failed + _AGAIN:
            return False
        self.answers = []
        for protocol in (3, 2):
            with contextlib.suppress(RedisError, OSError):
                name = self._connect(protocol)
                self._failed = 0.0
                naming = [("CLIENT", "SETNAME", name)] if name else []
                said = [*naming, *(first if protocol == 3 else ())]
                if said:  # a user of Redis that may not name itself does without
                    self.answers = self.ask_all(*said)[bool(name) :]
                return self.connected
        self._failed = time.monotonic()
        return False

    def _connect(self, protocol: int) -> str:
        """The name that is still to be said."""
        pool = self._client.connection_pool
        settings = {**pool.connection_kwargs, "protocol": protocol}
        greet = settings.get("redis_connect_func")
        if isinstance(greet, Greeting):
            settings["redis_connect_func"] = greet.without_name
        link = pool.connection_class(**settings)
        link.driver_info = None  # two round trips to say what nobody asks of this one
        link.connect()
        sock: socket.socket = link._sock
        sock.setblocking(False)
        self._link, self._socket, self._reader = link, sock, ReplyReader()
        self._replies.clear()
        self.pushes.clear()
        self.protocol = protocol
        return greet.name if isinstance(greet, Greeting) else ""

    def log_once(self, text: str) -> None:
        """Log what cannot be had here, the first time."""
        if not self._logged:
            logger.warning(text)
        self._logged = True

    def close(self) -> None:
        """Hang up, also when the other end already has."""
        link, self._link, self._socket, self.protocol = self._link, None, None, 0
        if link is not None:
            with contextlib.suppress(OSError):
                link._sock.close()
            link._sock = None

    def abandon(self) -> None:
        """Hang up without closing the descriptor, which may be somebody else's by now."""
        if self._link is not None and self._link._sock is not None:
            self._link._sock.detach()
        self.close()

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
                self._socket = None
                return
            try:
                for value in self._reader.feed(data):
                    self._sort(value)
            except ValueError as error:
                self.log_once(f"what redis says is no RESP: {error}")
                self.close()

    def _sort(self, value: Any) -> None:
        kind = value[0] if isinstance(value, list) and value else None
        # In RESP2 a message looks like any reply.
        pushed = isinstance(value, Push) or kind in (b"message", b"pmessage")
        if pushed and kind not in (b"subscribe", b"psubscribe", b"unsubscribe"):
            self.pushes.append(value)
        else:
            self._replies.append(value)

    def ask(self, *words: str | int) -> Any:
        """Send a command; its reply, or an ErrorReply; None, and closed, if none came in time."""
        return self.ask_all(words)[0]

    def ask_all(self, *commands: Sequence[str | int]) -> list[Any]:
        """The same of several commands, in one round trip."""
        if self._socket is None:
            return [None] * len(commands)
        limit = time.monotonic() + self._answer
        self._replies.clear()
        # A handler must not take the reply away between our look at it and our sleep.
        self._reading = True
        try:
            self._socket.settimeout(self._answer)
            self._socket.sendall(b"".join(encode(*words) for words in commands))
            self._socket.setblocking(False)
            while True:
                self._read_all()
                if len(self._replies) >= len(commands):
                    return [self._replies.popleft() for _ in commands]
                left = limit - time.monotonic()
                if self._socket is None or left <= 0:
                    break
                select.select([self._socket], [], [], left)
        except OSError:
            pass
        finally:
            self._reading = False
        self.close()
        return [None] * len(commands)

    def refuses(self, *words: str) -> str:
        """Ask; what Redis has against it, or nothing."""
        answer = self.ask(*words)
        return str(answer) if isinstance(answer, ErrorReply) else ""

    def leads_to_a_replica(self) -> bool:
        """Ask, which also shows whether the other end is still there (HELLO)."""
        if self.protocol != 3:
            self.ask("PING")
            return False
        told = self.ask("HELLO")
        return isinstance(told, dict) and told.get(b"role") in (b"replica", b"slave")

    def subscribe(self, *words: str) -> None:
        """SUBSCRIBE or PSUBSCRIBE. Logs once if Redis does not let us."""
        if refused := self.refuses(*words):
            self.log_once(f"redis does not let us subscribe, so stop-job does not work: {refused}")
