"""A parser of the Redis protocol, versions 2 and 3.

redis-py's own reader blocks, and treats pushes differently from version to version. This one takes
bytes as they arrive and returns complete values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class Push(list[Any]):
    """A message that Redis sends unasked: an invalidation, a published message."""


class ErrorReply(str):
    """An error reply."""


class _Incomplete(Exception):
    """The rest of the value has not arrived yet."""


def encode(*words: str | bytes | int) -> bytes:
    """Encode a command."""
    out = [b"*%d\r\n" % len(words)]
    for word in words:
        raw = word if isinstance(word, bytes) else str(word).encode()
        out.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(out)


class ReplyReader:
    """Splits a stream of bytes into values."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[Any]:
        """The values that are complete with this data. Raises ValueError for what is not RESP."""
        self._buffer += data
        while self._buffer:
            try:
                value, end = self._value(0)
            except _Incomplete:
                return
            self._buffer = self._buffer[end:]
            yield value

    def _line(self, at: int) -> tuple[bytes, int]:
        end = self._buffer.find(b"\r\n", at)
        if end < 0:
            raise _Incomplete
        return self._buffer[at:end], end + 2

    def _value(self, at: int) -> tuple[Any, int]:
        line, at = self._line(at)
        kind, text = line[:1], line[1:]
        match kind:
            case b"+" | b",":
                return text.decode(), at
            case b"-":
                return ErrorReply(text.decode(errors="replace")), at
            case b":" | b"(":
                return int(text), at
            case b"_":
                return None, at
            case b"#":
                return text == b"t", at
            case b"$" | b"!" | b"=":
                return self._bulk(kind, int(text), at)
            case b"*" if text == b"-1":
                return None, at
            case b"*" | b"~" | b">":
                values, at = self._many(int(text), at)
                return (Push(values) if kind == b">" else values), at
            case b"%":
                flat, at = self._many(2 * int(text), at)
                return dict(zip(map(_key, flat[::2]), flat[1::2], strict=True)), at
        raise ValueError(f"not the Redis protocol: {line[:40]!r}")

    def _bulk(self, kind: bytes, size: int, at: int) -> tuple[bytes | ErrorReply | None, int]:
        if size < 0:
            return None, at
        if len(self._buffer) < at + size + 2:
            raise _Incomplete
        raw = self._buffer[at : at + size]
        return (ErrorReply(raw.decode()) if kind == b"!" else raw), at + size + 2

    def _many(self, count: int, at: int) -> tuple[list[Any], int]:
        values = []
        for _ in range(count):
            value, at = self._value(at)
            values.append(value)
        return values, at


def _key(value: Any) -> Any:
    """A value as key of a dict; lists cannot be one."""
    return str(value) if isinstance(value, list | dict) else value
