"""A proxy between a client and the server, to cut, freeze and lose replies where it hurts."""

from __future__ import annotations

import contextlib
import random
import re
import select
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from harness.waiting import scaled

_NAME = re.compile(rb"^\*\d+\r\n\$\d+\r\n(\w+)\r$", re.MULTILINE)


_READ = {
    *("AUTH", "CLIENT", "HELLO", "INFO", "PING", "SELECT", "SUBSCRIBE"),
    *("EXEC", "MULTI", "UNWATCH", "WATCH"),
    *("EXISTS", "GET", "HEXISTS", "HGET", "HGETALL", "HKEYS", "HMGET", "TTL", "TYPE"),
    *("LRANGE", "SMEMBERS", "ZRANGE", "ZSCORE"),
}
"""Commands that leave no trace in Redis once their connection is closed."""


@dataclass
class Chunk:
    """What a client sent at once: a command or a pipeline. With its reply it is a round trip."""

    connection: int
    data: bytes = b""

    @property
    def commands(self) -> list[str]:
        """`["WATCH"]`, or `["MULTI", "HSET", "EXEC"]`."""
        return [name.decode().upper() for name in _NAME.findall(self.data)]

    @property
    def reads_only(self) -> bool:
        """Redis is as if it had not come."""
        return set(self.commands) <= _READ


@dataclass(frozen=True)
class _Limit:
    """What `stop_after` was asked for."""

    first: bytes
    chunks: int
    reply: bool
    reads: bool


class Proxy:
    """Listens on a unix socket and passes bytes on to another, both ways, until told otherwise.

    One thread a connection. For Redis, where a client sends a whole command at a time, one
    chunk from the client is one command or pipeline, and what comes back next is its reply.
    """

    def __init__(self, upstream: Path, listen: Path) -> None:
        self.url = f"unix://{listen}"
        self._upstream = upstream
        self._open = threading.Event()
        self._open.set()
        self._flowing = threading.Event()
        self._flowing.set()
        self._guard = threading.Lock()
        self._swallow: bytes | None = None
        self._before = False
        self._leaked = 0
        self._delay = 0.0
        self._answer = b""
        self._loss = 0.0
        self._dice = random.Random()
        self.losses = 0
        """Requests and replies that `lose` has lost."""
        self.swallowed = threading.Event()
        """Set when the fault asked for by `swallow_reply`, `cut_reply` or `cut_before` has
        happened."""
        self._hold: bytes | None = None
        self._let_go = threading.Event()
        self.held = threading.Event()
        """Set when what `hold` asked for has come."""
        self._limit: _Limit | None = None
        self._passed: int | None = None
        self._resumed = threading.Event()
        self.stopped = threading.Event()
        """Set when the client waits for what `stop_after` holds."""
        self.chunks: list[Chunk] = []
        """All that clients have sent so far."""
        self.connections = 0
        """Taken so far."""
        self._sockets: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(listen))
        self._listener.listen(64)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def lead_to(self, upstream: Path) -> None:
        """What comes from here on leads there, as when a name has got another address."""
        self._upstream = upstream

    # Faults.

    def cut(self) -> None:
        """Close every connection; new ones are taken."""
        with self._guard:
            for each in self._sockets:
                _shut(each)

    def refuse(self) -> None:
        """Close every connection and each new one at once, as a server that is down."""
        self._open.clear()
        self.cut()

    def accept(self) -> None:
        self._open.set()

    def freeze(self) -> None:
        """Keep connections and pass nothing on, as behind a dead router."""
        self._flowing.clear()

    def thaw(self) -> None:
        self._flowing.set()

    def swallow_reply(self, command: bytes) -> None:
        """Pass on the next chunk that holds these bytes, then cut instead of replying: the
        server has done it, the client cannot know."""
        self.cut_reply(command, 0)

    def cut_reply(self, command: bytes, passed: int) -> None:
        """The same, but so many bytes of the reply come through before the cut."""
        self.swallowed.clear()
        self._before, self._leaked = False, passed
        self._swallow = command

    def cut_before(self, command: bytes) -> None:
        """Cut instead of passing on the next chunk that holds these bytes."""
        self.swallowed.clear()
        self._before = True
        self._swallow = command

    def lose(self, share: float, seed: int = 0) -> None:
        """Lose that share of what clients send, half of it with the request, half with the reply;
        each time the connection is cut. `chunks` are not kept meanwhile. 0: no longer."""
        self._dice.seed(seed)
        self._loss = share

    def hold(self, command: bytes) -> None:
        """Keep the next chunk that holds these bytes; it and what follows passes at `let_go`."""
        self.held.clear()
        self._let_go.clear()
        self._hold = command

    def let_go(self) -> None:
        self._let_go.set()

    def spare(self) -> None:
        """Take back a `swallow_reply` or `cut_before` that has not happened yet."""
        with self._guard:
            self._swallow = None

    def stop_after(
        self, chunks: int, first: bytes, *, reply: bool = False, reads: bool = True
    ) -> None:
        """Pass on so many chunks, of whatever connection, beginning with the next one that holds
        `first`; then nothing any more, as when the client has died there.

        reply: whether the last one's reply still arrives; then it is the chunk after it that
        does not get through, else the client waits for that reply. reads: whether chunks that
        only read count too.
        """
        self.stopped.clear()
        self._resumed.clear()
        self._passed = None
        self._limit = _Limit(first, chunks, reply, reads)

    def resume(self) -> None:
        """Close the connections that `stop_after` holds, and pass on what comes on others."""
        self._limit = None
        self._resumed.set()

    def delay(self, seconds: float) -> None:
        """Replies take so long, on the average, each a little longer or shorter; 0: no longer."""
        self._delay = seconds

    def answer(self, error: str) -> None:
        """Answer every command with this error instead of passing it on; empty: no longer."""
        self._answer = f"-{error}\r\n".encode() if error else b""

    # Passing on.

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self._open.is_set():
                client.close()
                continue
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError):
            server.connect(str(self._upstream))
            with self._guard:
                self._sockets |= {client, server}
            try:
                self._pass_on(client, server)
            finally:
                with self._guard:
                    self._sockets -= {client, server}

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        """Both ways, until one side closes or the fault strikes."""
        lost = False
        answered = True
        with self._guard:
            self.connections += 1
            number = self.connections
        while True:
            readable, _, _ = select.select([client, server], [], [])
            for source in readable:
                chunk = source.recv(1 << 16)
                self._flowing.wait()
                if not chunk:
                    return
                if self._is_over(chunk, answered, source is client):
                    self.stopped.set()
                    self._resumed.wait()
                    return
                if source is server:
                    answered = True
                    time.sleep(self._delay * random.uniform(0.5, 1.5))
                    if lost:
                        if self._loss:
                            return
                        client.sendall(chunk[: self._leaked])
                        self.swallowed.set()
                        return
                    client.sendall(chunk)
                    continue
                if self._answer:
                    client.sendall(self._answer * _commands(chunk))
                    continue
                if self._keep(chunk):
                    self.held.set()
                    self._let_go.wait()
                if not self._loss:
                    self._note(number, chunk, answered)
                elif (fate := self._dice.random()) < self._loss and answered:
                    self.losses += 1
                    if fate < self._loss / 2:
                        return
                    lost = True
                answered = False
                if self._hit(chunk):
                    lost = True
                    if self._before:
                        self.swallowed.set()
                        return
                server.sendall(chunk)

    def _note(self, connection: int, data: bytes, answered: bool) -> None:
        """A pipeline may come in parts; what follows a reply is the next chunk."""
        with self._guard:
            if answered:
                self.chunks.append(Chunk(connection))
            last = next(each for each in reversed(self.chunks) if each.connection == connection)
            last.data += data

    def _is_over(self, data: bytes, answered: bool, from_client: bool) -> bool:
        """Whether the limit of `stop_after` is reached; counts towards it."""
        with self._guard:
            limit = self._limit
            if limit is None or (self._passed is None and limit.first not in data):
                return False
            self._passed = self._passed or 0
            if not from_client:
                return not limit.reply and self._passed == limit.chunks
            if not answered or (not limit.reads and Chunk(0, data).reads_only):
                return False
            if self._passed == limit.chunks:
                return True
            self._passed += 1
            return False

    def _keep(self, chunk: bytes) -> bool:
        with self._guard:
            if self._hold is None or self._hold not in chunk:
                return False
            self._hold = None
            return True

    def _hit(self, chunk: bytes) -> bool:
        with self._guard:
            if self._swallow is None or self._swallow not in chunk:
                return False
            self._swallow = None
            return True

    def close(self) -> None:
        self._open.clear()
        self._flowing.set()
        self.let_go()
        self.resume()
        _shut(self._listener)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(scaled(5))


def _commands(chunk: bytes) -> int:
    """How many commands are in what a client has sent at once."""
    return len(re.findall(rb"(?:^|\r\n)\*\d+\r\n\$", chunk))


def _shut(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
