"""A plugin that lets a test use `arbiter` from a thread of the arbiter's process, and its client.

    resqued -p harness.remote      serves the socket `remote` in the working directory

A request is one Python expression over `arbiter`, `open` (its requests, by name) and `resqued`; the
answer is the value's repr, or the exception's.
"""

from __future__ import annotations

import ast
import os
import socket
import threading
from pathlib import Path
from typing import Any

import resqued
from harness.waiting import scaled, wait_for
from resqued import hookimpl

SOCKET = "remote"


@hookimpl
def arbiter_started(arbiter: Any, reason: str) -> None:
    Path(SOCKET).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(SOCKET)
    listener.listen()
    threading.Thread(target=serve, args=(listener, arbiter), daemon=True).start()


def serve(listener: socket.socket, arbiter: Any) -> None:
    names = {
        "__name__": __name__,
        "arbiter": arbiter,
        "open": {},
        "resqued": resqued,
        "os": os,
        "threading": threading,
    }
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(connection, names), daemon=True).start()


def answer(connection: socket.socket, names: dict[str, Any]) -> None:
    with connection, connection.makefile("rw") as stream:
        try:
            value = repr(eval(stream.readline(), names))
        except BaseException as error:
            value = repr(f"{type(error).__name__}: {error}")
        stream.write(f"{value}\n")


class Remote:
    """The client. directory: the arbiter's working directory."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / SOCKET

    def eval(self, expression: str, timeout: float = 60) -> Any:
        """The value of an expression in the arbiter's process."""
        wait_for(self._path.exists, what="the remote plugin to listen")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(scaled(timeout))
            connection.connect(str(self._path))
            with connection.makefile("rw") as stream:
                stream.write(" ".join(expression.split()) + "\n")
                stream.flush()
                return ast.literal_eval(stream.readline())

    def ask(self, verb: str, seconds: float = 30) -> str | None:
        """Ask for a verb, `scale(3)`, and wait for its end. None: it is done; else why not."""
        return self.eval(
            f"(lambda request: (request.wait({scaled(seconds)}), request.refused or"
            f" (None if request.done else 'still open')))(arbiter.{verb})[1]"
        )

    def begin(self, name: str, verb: str) -> None:
        """Ask for a verb, and keep its request under this name."""
        self.eval(f"open.__setitem__({name!r}, arbiter.{verb})")

    def end(self, name: str, seconds: float = 30) -> str | None:
        """Wait for the end of a request that was begun, as `ask`."""
        return self.eval(
            f"(lambda request: (request.wait({scaled(seconds)}), request.refused or"
            f" (None if request.done else 'still open')))(open[{name!r}])[1]"
        )
