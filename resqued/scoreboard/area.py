"""An area of the scoreboard: one JSON object that one process writes and any process reads."""

from __future__ import annotations

import json
import mmap
import struct
from typing import Any, Final

_SEQUENCE: Final = struct.Struct("@Q")
_LENGTH: Final = struct.Struct("@I")
_TEXT_AT: Final = _SEQUENCE.size + _LENGTH.size


class Area:
    """Has a sequence number, which is odd while its writer writes, a length, and the text.

    memory: the mapping. at: where in it the area begins, a multiple of 8. size: bytes reserved;
    pages that were never written take no memory.
    """

    def __init__(self, memory: mmap.mmap, at: int, size: int) -> None:
        self._memory = memory
        self._at = at
        self._size = size

    @property
    def sequence(self) -> int:
        """A number that changes with each write. Costs no system call."""
        sequence: int = _SEQUENCE.unpack_from(self._memory, self._at)[0]
        return sequence

    def read(self) -> dict[str, Any]:
        """As it was written last; empty before the first time."""
        while True:
            before = self.sequence
            (length,) = _LENGTH.unpack_from(self._memory, self._at + _SEQUENCE.size)
            at = self._at + _TEXT_AT
            raw = self._memory[at : at + min(length, self._size - _TEXT_AT)]
            after = self.sequence
            if before == after and not before & 1:
                return _decode(raw)
            if before & 1 and before == after:  # its writer is stopped, or died, in the middle
                return {}

    def write(self, values: dict[str, Any]) -> None:
        """Replace it. One process does.

        What is too long loses its largest values; readers take a missing name for an unknown
        value.
        """
        raw = json.dumps(values).encode()
        while len(raw) > self._size - _TEXT_AT:
            largest = max(values, key=lambda name: len(json.dumps(values[name])))
            values = {name: value for name, value in values.items() if name != largest}
            raw = json.dumps(values).encode()
        odd = self.sequence | 1
        self._put(0, _SEQUENCE.pack(odd))
        self._put(_SEQUENCE.size, _LENGTH.pack(len(raw)))
        self._put(_TEXT_AT, raw)
        self._put(0, _SEQUENCE.pack((odd + 1) % 2**64))

    def _put(self, offset: int, raw: bytes) -> None:
        at = self._at + offset
        self._memory[at : at + len(raw)] = raw


def _decode(raw: bytes) -> dict[str, Any]:
    """Empty when other code has written over it, until it is written again."""
    try:
        values = json.loads(raw or b"{}")
    except ValueError:  # also bytes that are no UTF-8
        return {}
    return values if isinstance(values, dict) else {}
