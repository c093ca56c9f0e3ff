"""Rows of the boundary's table: environment variables and working directory."""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any, Final

_TZ: Final = b"TZ"

_ROOM: Final = 320
"""Bytes for the variable with its name. A longer value is set by setenv(3)."""

_putenv: Final = ctypes.PyDLL(None).putenv
_putenv.argtypes = [ctypes.c_void_p]
_rooms: Final[dict[bytes, Any]] = {}
"""By name. Never freed: the process's environment points there."""


class Environment:
    """Variables that a job has changed or deleted are restored; those it has added stay. An
    application that preloads nothing may read its settings file in the first job, and needs these
    variables in the next."""

    name = "environment"
    by_import = True

    def __init__(self) -> None:
        self.added: list[str] = []
        """Names of variables that jobs have added, not logged yet; the caller clears it."""
        self._own: dict[str, str] = {}
        self._variables: dict[str, Variable] = {}
        self._known: set[bytes] = set()
        self._kept: dict[bytes, bytes] = {}
        self._take_mapping()

    def _take_mapping(self) -> None:
        self._mapping = os.environ
        # Read at each job: copying `os.environ` itself would decode every variable.
        self._raw: dict[bytes, bytes] = vars(os.environ)["_data"]

    def put(self, **variables: str) -> None:
        """Set variables of resqued's own."""
        for name, value in variables.items():
            if self._own.get(name) != value:
                if (variable := self._variables.get(name)) is None:
                    variable = self._variables[name] = Variable(name)
                self._kept[os.fsencode(name)] = variable.set(value)
                self._own[name] = value

    def take(self) -> None:
        self._kept = dict(self._raw)

    def adopt(self) -> None:
        self._restore_mapping()
        self._note_added()
        self.take()

    def differs(self) -> bool:
        return self._raw != self._kept or os.environ is not self._mapping

    def restore(self) -> None:
        self._restore_mapping()
        for name, value in self._kept.items():
            if self._raw.get(name) != value:
                os.environb[name] = value
                if name == _TZ:
                    time.tzset()
        self._note_added()
        self.take()

    def _restore_mapping(self) -> None:
        if os.environ is not self._mapping:
            os.environ = self._mapping  # noqa: B003

    def _note_added(self) -> None:
        added = self._raw.keys() - self._kept.keys() - self._known
        self._known |= added
        self.added += sorted(map(os.fsdecode, added))


class Directory:
    """The working directory, also if its path by now leads elsewhere, or to nothing."""

    name = "working directory"
    by_import = False

    def __init__(self) -> None:
        self._fd = -1
        self._path: str | None = None
        self._kept: tuple[int, int] | None = None

    def take(self) -> None:
        self.close()
        try:
            self._fd = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1
        self._path = _path()
        self._kept = _identity(".")

    def adopt(self) -> None:
        self.take()

    def differs(self) -> bool:
        path = _path()
        if path == self._path and path is not None:
            return False
        if _identity(".") == self._kept:
            self._path = path  # renamed, or removed
            return False
        return True

    def restore(self) -> None:
        if self._fd >= 0 and _identity(self._fd) == self._kept:
            os.fchdir(self._fd)
        elif self._path is not None:
            os.chdir(self._path)

    def close(self) -> None:
        if self._fd >= 0 and _identity(self._fd) == self._kept:
            os.close(self._fd)
        self._fd = -1


def _path() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:
        return None


def _identity(file: Any) -> tuple[int, int] | None:
    """Device and inode; None if there is no such file."""
    try:
        found = os.stat(file)  # noqa: PTH116
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Variable:
    """An environment variable whose value changes with each job, in memory of its own.

    setenv(3), which `os.environ` uses, keeps every value that a variable ever had: about a hundred
    bytes per job, for ever. With putenv(3) the caller provides the memory, and each value
    overwrites the last. Runs in a worker.
    """

    def __init__(self, name: str) -> None:
        self._name = os.fsencode(name)
        self._room = _rooms.setdefault(self._name, ctypes.create_string_buffer(_ROOM))
        self._address = ctypes.addressof(self._room)
        # The data behind `os.environ`.
        self._shown: dict[bytes, bytes] = vars(os.environ)["_data"]

    def set(self, value: str) -> bytes:
        """Set it; the value as bytes. Raises ValueError for what cannot be set."""
        raw = os.fsencode(value)
        text = b"%b=%b" % (self._name, raw)
        if b"\0" in raw:
            raise ValueError("embedded null byte")
        if len(text) >= _ROOM:
            os.environb[self._name] = raw
            return raw
        self._room.value = text
        _putenv(self._address)  # other code may have set or deleted it
        self._shown[self._name] = raw
        return raw
