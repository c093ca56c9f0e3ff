"""A proxy between a client and the server, to cut, freeze and lose replies where it hurts."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from pathlib import Path


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
        self.swallowed = threading.Event()
        """Set when the fault asked for by `swallow_reply` or `cut_before` has happened."""
        self._sockets: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(listen))
        self._listener.listen(64)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

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
        self.swallowed.clear()
        self._before = False
        self._swallow = command

    def cut_before(self, command: bytes) -> None:
        """Cut instead of passing on the next chunk that holds these bytes."""
        self.swallowed.clear()
        self._before = True
        self._swallow = command

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
        while True:
            readable, _, _ = select.select([client, server], [], [])
            for source in readable:
                chunk = source.recv(1 << 16)
                self._flowing.wait()
                if not chunk:
                    return
                if source is server:
                    if lost:
                        self.swallowed.set()
                        return
                    client.sendall(chunk)
                    continue
                if self._hit(chunk):
                    lost = True
                    if self._before:
                        self.swallowed.set()
                        return
                server.sendall(chunk)

    def _hit(self, chunk: bytes) -> bool:
        with self._guard:
            if self._swallow is None or self._swallow not in chunk:
                return False
            self._swallow = None
            return True

    def close(self) -> None:
        self._open.clear()
        self._flowing.set()
        _shut(self._listener)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)


def _shut(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
