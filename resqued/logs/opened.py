"""The files of the log: opened all or none, reopened, and found again when code has closed them."""

from __future__ import annotations

import contextlib
import errno
import os

from resqued import linux
from resqued.exits import ExitCode
from resqued.logs.outlet import Outlet, open_for_append, put_onto, unblocked
from resqued.ownership import Untrusted


class LogError(Exception):
    """A log file cannot be opened. `exit_code` is what the command exits with."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.CANNOT_CREATE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def open_all(paths: dict[int | None, str]) -> dict[int | None, tuple[str, int]]:
    """Open every path, or none. Raises LogError."""
    opened: dict[int | None, tuple[str, int]] = {}
    for target, path in paths.items():
        try:
            opened[target] = path, open_for_append(path)
        except (OSError, Untrusted) as error:
            for _, fd in opened.values():
                os.close(fd)
            if isinstance(error, Untrusted):
                raise LogError(f"log {error}", ExitCode.NO_PERMISSION) from error
            remedy = "create its directory and let this user write there, or log somewhere else"
            if error.errno == errno.ENXIO:
                remedy = "it is a named pipe without a reader, or a socket"
            raise LogError(f"log '{path}' cannot be written: {error.strerror}; {remedy}") from error
    return opened


class LogFiles:
    """The descriptors that lead to files of the log, and the path of each."""

    def __init__(self) -> None:
        self.paths: dict[int, str] = {}
        """Of all that USR1 reopens, by descriptor."""
        self.unopened: list[str] = []
        """What the next line says: files that could not be reopened."""
        self._known: dict[int, tuple[int, int] | None] = {}

    def reopen(self, outlet: Outlet) -> None:
        """Open the paths again onto the same descriptors. For signal handlers."""
        for fd, path in self.paths.items():
            try:
                opened = open_for_append(path)
            except (OSError, Untrusted) as error:
                why = error.strerror if isinstance(error, OSError) else error
                self.unopened.append(f"log '{path}' cannot be reopened: {why}")
                continue
            put_onto(fd, opened)
        self.remember(outlet)

    def remember(self, outlet: Outlet) -> None:
        """Note which files the descriptors lead to, to detect when one is closed."""
        self._known = {fd: linux.identity(fd) for fd in (*self.paths, outlet.fd)}

    def reopen_lost(self, outlet: Outlet) -> tuple[Outlet, list[str]]:
        """Reopen under a new number: the old one may belong to another file by now. The outlet
        from here on, and what was lost."""
        lost = [fd for fd, known in self._known.items() if linux.identity(fd) != known]
        for fd in lost:
            path = self.paths.pop(fd, None)
            with contextlib.suppress(OSError, Untrusted):
                new = unblocked(2) if path is None else open_for_append(path)
                if path is not None:
                    self.paths[new] = path
                if fd == outlet.fd:
                    outlet.close()
                    outlet = Outlet(new)
        if lost:
            self.remember(outlet)
        return outlet, [f"descriptor {fd} of the log" for fd in lost]
