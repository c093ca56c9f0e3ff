"""An HTTP server in one thread that no client can make wait, or make use much of anything.

The server of the standard library starts a thread for each client, bounded neither in number nor in
time. This one serves at most `CLIENTS` at once, each for at most `SECONDS`, one request each, and
takes at most a fifth of a core. It runs in the arbiter, beside the loop, which it never holds up:
the interpreter's lock changes hands every 5 ms.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from resqued_plugins.http import message
from resqued_plugins.http.message import BadRequest, HttpRequest, Response

CLIENTS: Final = 64
"""At once. One more, and the oldest is dropped."""

SECONDS: Final = 5.0
"""For a client from its connection to its end, whatever it sends or reads meanwhile."""

LINGER: Final = 1.0
"""Seconds until the client has closed its side, after the response."""

REST: Final = 4.0
"""For each second of the processor's, so many seconds without one."""

_CHUNK: Final = 65536


class Client:
    """One connection."""

    def __init__(self, connection: socket.socket, now: float) -> None:
        self.socket = connection
        self.until = now + SECONDS
        self.received = bytearray()
        self.unsent: memoryview | None = None
        self.answered = False

    @property
    def wanted(self) -> int:
        """What to poll for."""
        return select.POLLOUT if self.unsent is not None else select.POLLIN


class Server:
    """Serves a listening socket, which it closes in the end.

    answer: gives the response to a request. What it raises is answered with 500, and raised.
    """

    def __init__(self, listener: socket.socket, answer: Callable[[HttpRequest], Response]) -> None:
        self.listener = listener
        self._answer = answer
        self._clients: dict[int, Client] = {}
        self._is = _identity(listener)
        self._held = threading.Lock()  # while the sockets are used
        self._closed = False
        self._failure: Exception | None = None  # of the last response

    @property
    def is_intact(self) -> bool:
        """Whether the listening socket still is what it was: a plugin may have closed it."""
        return _identity(self.listener) == self._is

    def turn(self, seconds: float) -> None:
        """Serve for so long, or until it is closed. Call it again and again in one thread.

        Raises OSError if its sockets have been closed by others.
        """
        end = time.monotonic() + seconds
        while not self._closed and (now := time.monotonic()) < end:
            began = time.thread_time()
            with self._held:
                if not self._closed:
                    self._step(now, end)
            failure, self._failure = self._failure, None
            if failure is not None:
                raise failure
            used = time.thread_time() - began
            time.sleep(min(REST * used, seconds))

    def close(self) -> None:
        """Close all sockets, from any thread."""
        if self._closed:
            return
        self._closed = True
        if not self.is_intact:
            return
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # ends the wait of the thread
        with self._held:
            for client in list(self._clients.values()):
                self._drop(client)
            self.listener.close()

    def forget(self) -> None:
        """Close nothing: the numbers of its descriptors may be others' by now."""
        self._closed = True
        for each in (self.listener, *(client.socket for client in self._clients.values())):
            each.detach()
        self._clients.clear()

    def _step(self, now: float, end: float) -> None:
        """Wait for what comes first, and do what can be done at once."""
        until = min([end, *(client.until for client in self._clients.values())])
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        for fd, client in self._clients.items():
            poll.register(fd, client.wanted)
        ready = poll.poll(max(0.0, until - now) * 1000 + 1)
        now = time.monotonic()
        for client in [each for each in self._clients.values() if each.until <= now]:
            self._drop(client)
        for fd, _ in ready:
            if fd == self.listener.fileno():
                self._accept(now)
            elif (known := self._clients.get(fd)) is not None:
                self._serve(known, now)

    def _accept(self, now: float) -> None:
        try:
            connection, _ = self.listener.accept()
        except OSError:  # it has gone already, or no descriptor is free
            if not self._closed and not self.is_intact:
                raise
            return
        connection.setblocking(False)
        if len(self._clients) >= CLIENTS:
            self._drop(min(self._clients.values(), key=lambda client: client.until))
        client = Client(connection, now)
        self._clients[connection.fileno()] = client
        self._serve(client, now)

    def _drop(self, client: Client) -> None:
        del self._clients[client.socket.fileno()]
        client.socket.close()

    def _serve(self, client: Client, now: float) -> None:
        try:
            if client.unsent is None:
                self._receive(client)
            if client.unsent is not None:
                self._send(client, now)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)

    def _receive(self, client: Client) -> None:
        data = client.socket.recv(_CHUNK if client.answered else message.LONGEST)
        if not data:
            self._drop(client)
            return
        if client.answered:
            return
        client.received += data
        try:
            if not message.is_whole(client.received):
                return
            request = message.parse(client.received)
        except BadRequest as error:
            client.unsent = memoryview(message.refusal(error).encode())
            return
        response = self._respond(request)
        client.unsent = memoryview(response.encode(body=request.method == "GET"))

    def _respond(self, request: HttpRequest) -> Response:
        try:
            return self._answer(request)
        except Exception as error:
            self._failure = error
            return message.text(500, "the log of resqued says why")

    def _send(self, client: Client, now: float) -> None:
        assert client.unsent is not None
        client.unsent = client.unsent[client.socket.send(client.unsent) :]
        if not client.unsent:  # closed at once, what has not been read would undo the response
            client.unsent, client.answered = None, True
            client.until = min(client.until, now + LINGER)
            with contextlib.suppress(OSError):
                client.socket.shutdown(socket.SHUT_WR)


def _identity(listener: socket.socket) -> tuple[int, int] | None:
    """Which file its descriptor leads to; None if it is closed."""
    try:
        found = os.fstat(listener.fileno())
    except OSError:
        return None
    return found.st_dev, found.st_ino
