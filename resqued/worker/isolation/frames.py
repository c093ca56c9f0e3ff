"""What a child tells its worker over a pipe: frames, each whole or nothing.

Job code may write into any descriptor. So a frame begins with a token that only the worker and
this child know, and ends with a checksum: what comes before a token is passed over, and what does
not fit its checksum was never sent. Nothing in a frame is unpickled: facts are JSON, parts are
bytes.
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

from resqued.signals import identity

TOKEN: Final = 16
"""Bytes of a token."""

_HEAD: Final = struct.Struct("=BIQI")
_MOST_FACTS: Final = 16 * 2**20
_PIECE: Final = 2**20  # bytes that are read at once
_FIRST: Final = 4096  # and at first: nearly all that is said is short


class FrameKind(enum.IntEnum):
    """What a frame says."""

    ALLOW = 1  # a callback of `seconds` is about to run
    RETURNED = 2
    RETRY = 3  # the job returned a Retry
    RAISED = 4
    PUT_OFF = 5  # its function is not known here
    UNREAD = 6  # it could not be decoded, and was not to be failed for it

    @property
    def decides(self) -> bool:
        """Whether the job is over with it."""
        return self >= FrameKind.RETURNED


@dataclass(frozen=True)
class Frame:
    """facts: plain JSON. parts: bytes, as many as the kind has."""

    kind: FrameKind
    facts: dict[str, Any] = field(default_factory=dict)
    parts: Sequence[bytes] = ()


def encode(token: bytes, frame: Frame) -> list[bytes]:
    """The frame in pieces, to be written one after another. Raises TypeError, ValueError for facts
    that are no JSON."""
    facts = json.dumps({**frame.facts, "parts": [len(part) for part in frame.parts]}).encode()
    if len(facts) > _MOST_FACTS:
        raise ValueError(f"{len(facts)} bytes of facts are too many")
    check = zlib.crc32(facts, frame.kind)
    for part in frame.parts:
        check = zlib.crc32(part, check)
    body = sum(map(len, frame.parts))
    return [token + _HEAD.pack(frame.kind, len(facts), body, check) + facts, *frame.parts]


class FrameReader:
    """Puts together what comes. limit: bytes of a frame's parts; one with more was never sent."""

    def __init__(self, token: bytes, limit: int) -> None:
        self._token = token
        self._limit = limit
        self._buffer = bytearray()
        self._needed = 0

    def read(self, fd: int) -> list[Frame]:
        """All that a non-blocking descriptor has to give now."""
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
        """The frames that are whole with this piece."""
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
    """The child's end of one. Job code may close it: then it is opened again, through the worker's.

    fd: ours. theirs: the number of the other end in the worker, whose pid is `parent`.
    """

    def __init__(self, fd: int, theirs: int, parent: int, flags: int) -> None:
        self.fd = fd
        self._is = identity(fd)
        self._path = f"/proc/{parent}/fd/{theirs}"
        self._flags = flags | os.O_CLOEXEC

    def mend(self) -> bool:
        """Open it again if it is not what it was; whether that was so. Raises OSError."""
        if identity(self.fd) == self._is:
            return False
        self.fd = os.open(self._path, self._flags)
        return True

    def write(self, pieces: Sequence[bytes]) -> None:
        """All of it; waits until the worker reads. Raises OSError."""
        for piece in pieces:
            with memoryview(piece) as view:
                done = 0
                while done < len(view):
                    done += os.write(self.fd, view[done : done + _PIECE])

    def read_line(self) -> bytes:
        """Until a line's end, or until the worker is gone. Raises OSError."""
        line = bytearray()
        while not line.endswith(b"\n"):
            piece = os.read(self.fd, 65536)
            if not piece:
                break
            line += piece
        return bytes(line)

    def read_exactly(self, size: int) -> bytes:
        """So many bytes; fewer if the worker is gone. Raises OSError."""
        found = bytearray()
        while len(found) < size:
            piece = os.read(self.fd, min(_PIECE, size - len(found)))
            if not piece:
                break
            found += piece
        return bytes(found)
