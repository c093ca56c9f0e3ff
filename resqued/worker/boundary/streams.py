"""Rows of the boundary's table: descriptors 0 to 2, and the objects of `sys` that write to them."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import sys
from typing import Any, Final

from resqued import logs

_STANDARD: Final = (0, 1, 2)
_NAMES: Final = ("stdin", "stdout", "stderr")
_LOWEST: Final = 10
"""Lowest number for copies of descriptors: jobs expect low numbers to be free."""

_WAYS: Final = ("encoding", "errors", "line_buffering", "write_through")
_FLAGS: Final = os.O_ACCMODE | os.O_NONBLOCK | os.O_APPEND
Identity = tuple[int, int, int]


class StandardDescriptors:
    """Standard input, output and error, saved as copies of the descriptors. If an output leads to a
    file that SIGUSR1 reopens, it is restored to the file at that path."""

    name = "standard descriptors"
    by_import = False

    def __init__(self) -> None:
        self._copies: dict[int, int] = {}
        self._kept: dict[int, Identity | None] = dict.fromkeys(_STANDARD)

    def take(self) -> None:
        self.close()
        for fd in _STANDARD:
            self._kept[fd] = _identity(fd)
            with contextlib.suppress(OSError):  # closed, or out of descriptors
                self._copies[fd] = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LOWEST)

    def adopt(self) -> None:
        self.take()

    def differs(self) -> bool:
        kept = self._kept
        return not (_identity(1) == kept[1] and _identity(2) == kept[2] and _identity(0) == kept[0])

    def restore(self) -> None:
        for fd, kept in self._kept.items():
            now = _identity(fd)
            if now != kept and kept is not None:
                self._restore(fd, now, kept)

    def _restore(self, fd: int, now: Identity | None, kept: Identity) -> None:
        if _is_same(now, kept):
            fcntl.fcntl(fd, fcntl.F_SETFL, kept[2] & ~os.O_ACCMODE)  # flags of the open file
            return
        path = logs.files().get(fd)
        if path is not None and not _leads_to(path, now):
            logs.reopen()
        if path is None or not _leads_to(path, _identity(fd)):
            copy = self._copies.get(fd, -1)
            if not _is_same(_identity(copy), kept):
                raise OSError(f"the copy of descriptor {fd} is gone")
            os.dup2(copy, fd)
        self._refresh(fd)

    def _refresh(self, fd: int) -> None:
        """Save what the descriptor leads to now, in the copy too."""
        self._kept[fd] = _identity(fd)
        with contextlib.suppress(OSError):
            if fd in self._copies:
                os.dup2(fd, self._copies[fd], inheritable=False)

    def close(self) -> None:
        for fd, copy in self._copies.items():
            if _is_same(_identity(copy), self._kept[fd]):
                os.close(copy)
        self._copies.clear()


def _identity(
    fd: int, fstat: Any = os.fstat, control: Any = fcntl.fcntl, command: int = fcntl.F_GETFL
) -> Identity | None:
    """Device, inode and flags; None if it is closed. The other arguments are for speed."""
    try:
        found = fstat(fd)
        return found.st_dev, found.st_ino, control(fd, command) & _FLAGS
    except OSError:
        return None


def _is_same(one: Identity | None, other: Identity | None) -> bool:
    """Whether both are one file, opened for the same."""
    if one is None or other is None:
        return False
    return one[:2] == other[:2] and one[2] & os.O_ACCMODE == other[2] & os.O_ACCMODE


def _leads_to(path: str, there: Identity | None) -> bool:
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return False
    return there is not None and (found.st_dev, found.st_ino) == there[:2]


class Streams:
    """`sys.stdin`, `sys.stdout` and `sys.stderr`; one that was closed is replaced."""

    name = "standard streams"
    by_import = True

    def __init__(self) -> None:
        self._kept: list[Any] = []
        self._made: dict[int, dict[str, Any]] = {}
        self._shown: tuple[Any, Any] = (None, None)

    def take(self) -> None:
        self._kept = [sys.stdin, sys.stdout, sys.stderr]
        self._shown = _way(self._kept[1]), _way(self._kept[2])
        for fd, stream in zip(_STANDARD, self._kept, strict=True):
            if isinstance(stream, io.TextIOWrapper) and not _is_closed(stream):
                self._made[fd] = dict(zip(_WAYS, _way(stream), strict=True))

    def adopt(self) -> None:
        self.take()
        self.restore()

    def differs(self) -> bool:
        given, out, error = self._kept
        if sys.stdin is not given or sys.stdout is not out or sys.stderr is not error:
            return True
        if (_way(out), _way(error)) != self._shown:
            return True
        try:
            return bool(given.closed or out.closed or error.closed)
        except (AttributeError, ValueError):  # None, a class of the application, or detached
            return any(map(_is_closed, self._kept))

    def restore(self) -> None:
        for fd, name in enumerate(_NAMES):
            if _is_closed(self._kept[fd]):
                self._replace(fd, name)
            stream = self._kept[fd]
            way = _way(stream)
            if fd and way and fd in self._made and way != tuple(self._made[fd].values()):
                stream.reconfigure(**self._made[fd])
            setattr(sys, name, stream)
        self._shown = _way(self._kept[1]), _way(self._kept[2])

    def _replace(self, fd: int, name: str) -> None:
        settings = self._made.get(fd, {"encoding": "utf-8", "errors": "backslashreplace"})
        raw = io.FileIO(fd, "rb" if fd == 0 else "wb", closefd=False)
        buffer: Any = io.BufferedReader(raw) if fd == 0 else io.BufferedWriter(raw)
        stream = io.TextIOWrapper(buffer, **settings)
        if getattr(sys, f"__{name}__") is self._kept[fd]:
            setattr(sys, f"__{name}__", stream)
        self._kept[fd] = stream

    def flush(self) -> None:
        """Flush what was printed. What cannot be written is lost, as at an exit."""
        _, out, error = self._kept
        same = sys.stdout is out and sys.stderr is error
        for stream in (out, error) if same else (sys.stdout, sys.stderr, out, error):
            try:
                stream.flush()
            except Exception:
                continue


def _way(stream: Any) -> tuple[Any, ...]:
    """How an output writes (`TextIOWrapper.reconfigure`); empty for one of another class."""
    if not isinstance(stream, io.TextIOWrapper):
        return ()
    try:
        return stream.encoding, stream.errors, stream.line_buffering, stream.write_through
    except ValueError:  # detached
        return ()


def _is_closed(stream: Any) -> bool:
    try:
        return bool(stream is not None and stream.closed)
    except ValueError:  # detached
        return True
    except AttributeError:  # a stream class of the application
        return False
