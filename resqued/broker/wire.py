"""Send scripts over connections of redis-py, packed and parsed at a fraction of its cost.

redis-py connects (TLS, AUTH, SELECT, sentinels) and keeps the connection in its pool; the worker
needs no second one. Requests are packed by the caller, and replies read in one piece.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable
from importlib import resources
from typing import Any, Final

import redis
from redis._parsers.base import BaseParser
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import NoScriptError
from redis.exceptions import TimeoutError as TookTooLong

from resqued.broker.resp import ErrorReply, Push, ReplyReader

_PIECE: Final = 65536
"""Bytes that are sent at once; the time limit of a command holds for each piece."""

_FRESH: Final = 1.0
"""Seconds after its last use within which a connection is used without checking it."""

_error: Final[Any] = BaseParser.parse_error
"""Converts an error reply to the exception that redis-py would raise."""


def bulk(words: Iterable[bytes | str | float]) -> bytes:
    """Encode words of a command, as redis-py does."""
    raws = [word if type(word) is bytes else str(word).encode() for word in words]
    return b"".join([b"$%d\r\n%b\r\n" % (len(raw), raw) for raw in raws])


def sha_of(script: str) -> str:
    """The digest by which EVALSHA names a script."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def flat(reply: bytes) -> list[bytes] | None:
    """The elements of a complete array of bulk strings; None if it is anything else, incomplete, or
    if an element contains a line end."""
    if reply[:1] != b"*" or reply[-2:] != b"\r\n":
        return None
    parts = reply.split(b"\r\n")
    texts = parts[2::2]
    if len(parts) != 2 * len(texts) + 2 or parts[0] != b"*%d" % len(texts):
        return None
    return texts if parts[1:-1:2] == [b"$%d" % len(text) for text in texts] else None


class Wire:
    """Sends one script. Used by one thread; others may use the client meanwhile. client: with
    strict connections. script: its text."""

    def __init__(self, client: redis.Redis, script: str) -> None:
        self._client = client
        self._script = script
        self.evalsha: Final = bulk(("EVALSHA", sha_of(script)))
        """The first two words of each request."""
        self._used = 0.0

    def encode(self, words: Iterable[Any]) -> bytes:
        """Encode words of any type that redis-py sends. Raises DataError."""
        return bulk(map(self._client.get_encoder().encode, words))

    def ask(self, request: bytes) -> Any:
        """The reply. Raises redis errors; after a connection error the script may have run."""
        try:
            return self._ask(request)
        except NoScriptError:
            self._client.script_load(self._script)
            return self._ask(request)

    def _ask(self, request: bytes) -> Any:
        pool: Any = self._client.connection_pool
        link, give = self._take(pool)
        try:
            reply = _exchange(link, request)
        except TimeoutError as error:
            link.disconnect()
            raise TookTooLong("Timeout reading from socket") from error
        except OSError as error:
            link.disconnect()
            raise Disconnected(f"{type(error).__name__}: {error}") from error
        except BaseException:
            link.disconnect()
            raise
        finally:
            give(link)
        if isinstance(reply, Exception):
            if (note := getattr(link, "note_refusal", None)) is not None:
                note(reply)  # strict connections reconnect if another server may accept it
            raise reply
        self._used = time.monotonic()
        return reply

    def _take(self, pool: Any) -> tuple[Any, Callable[[Any], object]]:
        """A connected connection, and the function that returns it to the pool."""
        if time.monotonic() < self._used + _FRESH:
            with contextlib.suppress(AttributeError, IndexError):
                idle: list[Any] = pool._available_connections
                link = idle.pop()
                if link._sock is not None and not getattr(link, "_outworn", False):
                    return link, idle.append
                idle.append(link)
        return pool.get_connection(), pool.release


def _exchange(link: Any, request: bytes) -> Any:
    """Send a request and read its reply, or an error reply. Raises OSError, redis errors."""
    sock = link._sock
    if len(request) <= _PIECE:
        sock.sendall(request)
    else:
        for at in range(0, len(request), _PIECE):
            sock.sendall(memoryview(request)[at : at + _PIECE])
    data = sock.recv(_PIECE)
    if (texts := flat(data)) is not None:
        return texts
    reader = ReplyReader()
    while True:
        if not data:
            raise Disconnected("Connection closed by server.")
        try:
            for value in reader.feed(data):
                if isinstance(value, ErrorReply):
                    return _error(str(value))
                if not isinstance(value, Push):
                    return value
        except ValueError as error:
            raise Disconnected(str(error)) from error
        data = sock.recv(1 << 20)


def read_script(*names: str) -> str:
    """The texts of these scripts (`NAME.lua`, package data) concatenated. Call it at import: the
    files may be replaced or deleted while a process runs."""
    folder = resources.files(__package__)
    return "".join(folder.joinpath(f"{name}.lua").read_text(encoding="utf-8") for name in names)
