"""The messages from a child to its worker over a pipe: frames, each complete or ignored.

Job code may write to any descriptor. So a frame begins with a token that only the worker and this
child know, and has a checksum: bytes before a token are skipped, and a frame with a wrong checksum
is ignored. Nothing in a frame is unpickled: facts are JSON, parts are bytes.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from resqued.linux import identity

TOKEN: Final = 16
"""Length of a token in bytes."""

_HEAD: Final = struct.Struct("=BIQI")
_MOST_FACTS: Final = 16 * 2**20
_PIECE: Final = 2**20  # bytes that are read at once
_FIRST: Final = 4096  # the first read: nearly all frames are short


class FrameKind(enum.IntEnum):
    """What a frame reports."""

    ALLOW = 1  # a callback of `seconds` is about to run
    RETURNED = 2
    RETRY = 3  # the job returned a Retry
    RAISED = 4
    PUT_OFF = 5  # its function is unknown here
    UNREAD = 6  # it could not be decoded, and must not fail for that

    @property
    def decides(self) -> bool:
        """Whether the job has ended with it."""
        return self >= FrameKind.RETURNED


@dataclass(frozen=True)
class Frame:
    """facts: plain JSON. parts: bytes, as many as the kind has."""

    kind: FrameKind
    facts: dict[str, Any] = field(default_factory=dict)
    parts: Sequence[bytes] = ()


def encode(token: bytes, frame: Frame) -> list[bytes]:
    """The frame in pieces, to be written in order. Raises TypeError, ValueError for bad facts."""
    facts = json.dumps({**frame.facts, "parts": [len(part) for part in frame.parts]}).encode()
    if len(facts) > _MOST_FACTS:
        raise ValueError(f"{len(facts)} bytes of facts are too many")
    check = zlib.crc32(facts, frame.kind)
    for part in frame.parts:
        check = zlib.crc32(part, check)
    body = sum(map(len, frame.parts))
    return [token + _HEAD.pack(frame.kind, len(facts), body, check) + facts, *frame.parts]


class FrameReader:
    """Assembles frames. limit: bytes of a frame's parts; a larger one is ignored."""

    def __init__(self, token: bytes, limit: int) -> None:
        self._token = token
        self._limit = limit
        self._buffer = bytearray()
        self._needed = 0

    def read(self, fd: int) -> list[Frame]:
        """Read all that a non-blocking descriptor has now."""
        frames: list[Frame] = []
        size = _FIRST
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(fd, size):
                frames += self.feed(piece)
                if len(piece) < size:
                    break
                size = _PIECE
        return frames

    def feed(self, piece: bytes) -> list[Frame]:
        """The frames that are complete with this piece."""
        self._buffer += piece
        frames: list[Frame] = []
        while len(self._buffer) >= self._needed:
            at = self._buffer.find(self._token)
            if at < 0:
                keep = min(len(self._buffer), len(self._token) - 1)
                del self._buffer[: len(self._buffer) - keep]
                self._needed = len(self._token)
                break
            del self._buffer[:at]
            self._needed = len(self._token) + _HEAD.size
            if len(self._buffer) < self._needed:
                break
            kind, facts, body, check = _HEAD.unpack_from(self._buffer, len(self._token))
            if facts > _MOST_FACTS or body > self._limit:
                self._skip_token()
                continue
            begin, self._needed = self._needed, self._needed + facts + body
            if len(self._buffer) < self._needed:
                break
            frame = _decode(kind, self._buffer, begin, begin + facts, self._needed, check)
            if frame is None:
                self._skip_token()
                continue
            del self._buffer[: self._needed]
            self._needed = 0
            frames.append(frame)
            if not self._buffer:
                break
        return frames

    def _skip_token(self) -> None:
        del self._buffer[: len(self._token)]
        self._needed = 0


def _decode(
    kind: int, buffer: bytearray, begin: int, middle: int, end: int, check: int
) -> Frame | None:
    with memoryview(buffer) as view, view[begin:end] as whole:
        if zlib.crc32(whole, kind) != check:
            return None
        raw = bytes(view[begin:middle])
        try:
            facts = json.loads(raw)
            sizes = [int(size) for size in facts.pop("parts")]
            known = FrameKind(kind)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        if sum(sizes) != end - middle or any(size < 0 for size in sizes):
            return None
        parts = []
        for size in sizes:
            parts.append(bytes(view[middle : middle + size]))
            middle += size
        return Frame(known, facts, parts)


class Pipe:
    """The child's end of a pipe. If job code has closed it, it is opened again, through the
    worker's /proc. fd: of this end. theirs: number of the other end in the worker, whose pid is
    `parent`."""

    def __init__(self, fd: int, theirs: int, parent: int, flags: int) -> None:
        self.fd = fd
        self._is = identity(fd)
        self._path = f"/proc/{parent}/fd/{theirs}"
        self._flags = flags | os.O_CLOEXEC

    def mend(self) -> bool:
        """Open it again if it is another file now; whether it was. Raises OSError."""
        if identity(self.fd) == self._is:
            return False
        self.fd = os.open(self._path, self._flags)
        return True

    def write(self, pieces: Sequence[bytes]) -> None:
        """Write all; waits until the worker reads. Raises OSError."""
        for piece in pieces:
            with memoryview(piece) as view:
                done = 0
                while done < len(view):
                    done += os.write(self.fd, view[done : done + _PIECE])

    def read_line(self) -> bytes:
        """Read to the end of a line, or until the worker is gone. Raises OSError."""
        line = bytearray()
        while not line.endswith(b"\n"):
            piece = os.read(self.fd, 65536)
            if not piece:
                break
            line += piece
        return bytes(line)

    def read_exactly(self, size: int) -> bytes:
        """Read so many bytes; fewer if the worker is gone. Raises OSError."""
        found = bytearray()
        while len(found) < size:
            piece = os.read(self.fd, min(_PIECE, size - len(found)))
            if not piece:
                break
            found += piece
        return bytes(found)
