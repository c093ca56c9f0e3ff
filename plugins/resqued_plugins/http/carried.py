"""What the server keeps over a re-exec: its listening socket, and a memfd with what it has counted.

Both are descriptors whose numbers are in a variable of the environment, which fork servers and
workers do not see.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

VARIABLE: Final = "RESQUED_HTTP_DESCRIPTORS"


class Carried:
    """The descriptors, in the image that is replaced. Raises OSError."""

    def __init__(self, listener: socket.socket, env: MutableMapping[str, str]) -> None:
        self._listener = listener.fileno()
        self._place = listener.getsockname()
        self._memory = os.memfd_create("resqued-http", os.MFD_CLOEXEC)
        for fd in (self._listener, self._memory):
            os.set_inheritable(fd, True)
        env[VARIABLE] = f"{self._listener},{self._memory}"

    def write(self, facts: Mapping[str, Any]) -> None:
        """Replace what the next image finds. facts: plain JSON."""
        raw = json.dumps({**facts, "place": self._place}).encode()
        os.pwrite(self._memory, raw, 0)
        os.ftruncate(self._memory, len(raw))

    def close(self) -> None:
        """The image was not replaced: no process started later gets the socket."""
        with contextlib.suppress(OSError):
            os.set_inheritable(self._listener, False)
        os.close(self._memory)


def take(environ: MutableMapping[str, str]) -> tuple[socket.socket | None, dict[str, Any]]:
    """What the image before has left, once: the listening socket, and the facts, which may be
    empty. Descriptors that are something else by now are left alone."""
    words = environ.pop(VARIABLE, "").split(",")
    if len(words) != 2 or not all(map(str.isdecimal, words)):
        return None, {}
    listener, memory = map(int, words)
    try:
        facts = json.loads(os.pread(memory, os.fstat(memory).st_size, 0))
        place = facts["place"]
    except (OSError, ValueError, LookupError, TypeError):
        return None, {}
    os.close(memory)
    try:
        found = socket.socket(fileno=listener)
    except OSError:
        return None, facts
    try:
        if list(found.getsockname()) == place:
            found.set_inheritable(False)
            found.setblocking(False)
            return found, facts
    except OSError:
        pass
    found.detach()
    return None, facts
