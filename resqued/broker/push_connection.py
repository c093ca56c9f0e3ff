"""A connection on which Redis sends messages unasked: invalidations, and published commands.

redis-py connects (TLS, AUTH, SELECT). From then on reading never blocks, so that a loop or a signal
handler can check whether something has arrived. Used by workers and by the steward.
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
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisError

from resqued import logs
from resqued.broker.resp import ErrorReply, Push, ReplyReader, encode
from resqued.broker.strict import Greeting
from resqued.logs import LogEvent

_AGAIN: Final = 5.0  # seconds between two attempts to connect


class PushConnection:
    """One such connection. Not connected until `open`; unasked messages collect in `pushes`.
    answer: seconds that a reply may take."""

    def __init__(self, connection: redis.Redis, answer: float) -> None:
        self.protocol = 0
        """Version of RESP; 0 while not connected."""
        self.answers: list[Any] = []
        """Replies to the first commands."""
        self.pushes: collections.deque[list[Any]] = collections.deque()
        self._client = connection
        self._answer = answer
        self._link: Any = None  # connection object of redis-py
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
        """For select; only while connected."""
        assert self._socket is not None
        return self._socket.fileno()

    def open(self, *first: Sequence[str]) -> bool:
        """Connect if not connected, unless an attempt has just failed; whether it is connected.
        first: commands that are sent together with CLIENT SETNAME in one round trip, under RESP3;
        their replies are in `answers`."""
        if self.connected:
            return True
        if self._failed and time.monotonic() < self._failed + _AGAIN:
            return False
        self.answers = []
        name = self._connect_as_it_can()
        if name is None:
            self._failed = time.monotonic()
            return False
        self._failed = 0.0
        naming = [("CLIENT", "SETNAME", name)] if name else []
        said = [*naming, *(first if self.protocol == 3 else ())]
        if said:  # an ACL may forbid CLIENT SETNAME; then it has no name
            self.answers = self.ask_all(*said)[bool(name) :]
        return self.connected

    def _connect_as_it_can(self) -> str | None:
        """With RESP3, else with RESP2: the client name that still has to be set; None: not at all.

        A server without RESP3 may close the connection instead of refusing. So does one where
        something else went wrong, hence the second attempt.
        """
        with contextlib.suppress(RedisError, OSError):
            try:
                return self._connect(3)
            except Disconnected:
                return self._connect(3)
        with contextlib.suppress(RedisError, OSError):
            return self._connect(2)
        return None

    def _connect(self, protocol: int) -> str:
        """Connect; the client name that still has to be set, or an empty text."""
        pool = self._client.connection_pool
        settings = {**pool.connection_kwargs, "protocol": protocol}
        greet = settings.get("redis_connect_func")
        if isinstance(greet, Greeting):
            settings["redis_connect_func"] = greet.without_name
        link = pool.connection_class(**settings)
        link.driver_info = None  # saves two round trips at each connect
        link.connect()
        sock: socket.socket = link._sock
        sock.setblocking(False)
        self._link, self._socket, self._reader = link, sock, ReplyReader()
        self._replies.clear()
        self.pushes.clear()
        self.protocol = protocol
        return greet.name if isinstance(greet, Greeting) else ""

    def log_once(self, text: str) -> None:
        """Log a warning, the first time only."""
        if not self._logged:
            logs.warning(text, LogEvent.REDIS_NOTICE)
        self._logged = True

    def close(self) -> None:
        """Close the connection, also if the other end has closed it."""
        link, self._link, self._socket, self.protocol = self._link, None, None, 0
        if link is not None:
            with contextlib.suppress(OSError):
                link._sock.close()
            link._sock = None

    def abandon(self) -> None:
        """Drop the connection without closing its descriptor, which may by now be another file."""
        if self._link is not None and self._link._sock is not None:
            self._link._sock.detach()
        self.close()

    def read(self) -> None:
        """Read what has arrived, without blocking. Safe in signal handlers, also nested ones."""
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
            except OSError as error:  # ssl.SSLWantReadError is an OSError without a usable errno
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
                self.log_once(f"redis sent data that is not RESP: {error}")
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
        """Send a command; its reply, or an ErrorReply; None, and closed, if it takes too long."""
        return self.ask_all(words)[0]

    def ask_all(self, *commands: Sequence[str | int]) -> list[Any]:
        """The same for several commands, in one round trip."""
        if self._socket is None:
            return [None] * len(commands)
        limit = time.monotonic() + self._answer
        self._replies.clear()
        # Else a signal handler could read the reply right before the select below.
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
        """Send a command; the text of an error reply, else an empty text."""
        answer = self.ask(*words)
        return str(answer) if isinstance(answer, ErrorReply) else ""

    def leads_to_a_replica(self) -> bool:
        """Whether the server is a replica (HELLO); also checks that the connection is alive."""
        if self.protocol != 3:
            self.ask("PING")
            return False
        answer = self.ask("HELLO")
        return isinstance(answer, dict) and answer.get(b"role") in (b"replica", b"slave")

    def subscribe(self, *words: str) -> None:
        """SUBSCRIBE or PSUBSCRIBE. Logs once if Redis refuses."""
        if refused := self.refuses(*words):
            self.log_once(f"redis refuses SUBSCRIBE, so stop-job does not work: {refused}")
