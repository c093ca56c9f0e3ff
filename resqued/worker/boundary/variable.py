"""A variable of the environment that has another value for each job, in memory of its own.

setenv(3), with which `os.environ` sets one, keeps every value that it was ever given: about a
hundred bytes a job, for good. putenv(3) has the caller keep the memory, and this writes each value
over the last one.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any, Final

_ROOM: Final = 320
"""Bytes of the variable with its name. What is longer is set by setenv(3)."""

_putenv: Final = ctypes.PyDLL(None).putenv
_putenv.argtypes = [ctypes.c_void_p]


_rooms: Final[dict[bytes, Any]] = {}
"""By name. Never freed: the process's environment points there, whatever becomes of the worker."""


class Variable:
    """One variable. Runs in a worker."""

    def __init__(self, name: str) -> None:
        self._name = os.fsencode(name)
        self._room = _rooms.setdefault(self._name, ctypes.create_string_buffer(_ROOM))
        self._address = ctypes.addressof(self._room)
        # What `os.environ` has read of the process's environment, and shows.
        self._shown: dict[bytes, bytes] = vars(os.environ)["_data"]

    def set(self, value: str) -> bytes:
        """Set it; the value as bytes. Raises ValueError for what cannot be."""
        raw = os.fsencode(value)
        text = b"%b=%b" % (self._name, raw)
        if b"\0" in raw:
            raise ValueError("embedded null byte")
        if len(text) >= _ROOM:
            os.environb[self._name] = raw
            return raw
        self._room.value = text
        _putenv(self._address)  # somebody may have set or deleted it meanwhile
        self._shown[self._name] = raw
        return raw
