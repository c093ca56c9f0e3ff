"""The pid file. Who holds its lock is running; whether a pid answers to `kill` proves nothing.

A pid in a file goes stale, and in a container the stale pid is often alive: it is ourselves.
The lock goes with the process, so it cannot. It belongs to the open file, hence close-on-exec:
a child that had the descriptor would hold the lock too. Runs in the arbiter.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from pathlib import Path
from typing import Final, Self

from resqued.exits import ExitCode
from resqued.linux import identity
from resqued.logs import logger
from resqued.ownership import Untrusted, check_writers

_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_REPEAT: Final = 60.0
"""Seconds between two log lines that say the same of the pid file."""


class PidFileError(Exception):
    """The pid file cannot be had. `exit_code` is what the command exits with."""

    def __init__(self, message: str, exit_code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class PidFile:
    """A pid file that is ours: locked, with our pid in it."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._logged: dict[str, float] = {}
        self.fd = fd  # to hand over a re-exec; another one when `check` made the file anew
        self._is = identity(fd)

    @classmethod
    def acquire(cls, path: str) -> Self:
        """Lock the file, made if need be, and write our pid. Raises PidFileError.

        Handlers must stand already: people signal the moment there is a pid.
        """
        while True:
            try:
                fd = os.open(path, _FLAGS, 0o644)
            except OSError as error:
                raise _cannot(path, error) from error
            taken = cls(path, fd)
            try:
                _check(path, fd)
                if not _lock(fd):
                    raise PidFileError(_held(path, fd), ExitCode.TRY_LATER)
                if taken._is_in_place():
                    try:
                        taken._write()
                    except OSError:
                        Path(path).unlink()  # stale or empty, and ours to remove by its lock
                        raise
                    return taken
            except OSError as error:
                os.close(fd)
                raise _cannot(path, error) from error
            except PidFileError:
                os.close(fd)
                raise
            os.close(fd)  # its last owner removed it between our open and our lock

    @classmethod
    def adopt(cls, path: str, fd: int) -> Self:
        """Take over the descriptor that came through a re-exec, and the lock with it."""
        os.set_inheritable(fd, False)
        return cls(path, fd)

    def check(self) -> None:
        """See that the file is still there and ours, and put it right.

        Called about once a second; the log is told the same at most once a minute.
        """
        try:
            if self._is_in_place():
                if os.pread(self.fd, 32, 0) != _content():
                    self._warn("had been overwritten, written again")
                    self._write()
                return
            fd = os.open(self.path, _FLAGS, 0o644)
        except OSError as error:
            self._warn(f"cannot be written again: {error.strerror}")
            return
        try:
            _check(self.path, fd)
        except PidFileError as error:
            self._warn(f"has been replaced: {error}")
            os.close(fd)
            return
        if not _lock(fd):
            self._warn(f"now belongs to another: {_held(self.path, fd)}")
            os.close(fd)
            return
        self._warn("had been removed or replaced, written again")
        self._close()
        self.fd, self._is = fd, identity(fd)
        with contextlib.suppress(OSError):  # a full disk; the next check tries again
            self._write()

    def release(self) -> None:
        """Remove the file if it is still ours, and let go of the lock."""
        with contextlib.suppress(OSError):
            if self._is_in_place():
                Path(self.path).unlink()  # before the lock goes: then it would be another's
        self._close()

    def _close(self) -> None:
        if identity(self.fd) == self._is:  # else somebody has closed it, and may have the number
            os.close(self.fd)

    def _warn(self, what: str) -> None:
        now = time.monotonic()
        if now >= self._logged.get(what, -_REPEAT) + _REPEAT:
            self._logged[what] = now
            logger.warning(f"pid file '{self.path}' {what}")

    def _is_in_place(self) -> bool:
        try:
            there = Path(self.path).lstat()
        except FileNotFoundError:
            return False
        return identity(self.fd) == (there.st_dev, there.st_ino)

    def _write(self) -> None:
        content = _content()
        os.pwrite(self.fd, content, 0)
        os.ftruncate(self.fd, len(content))
        os.fsync(self.fd)


def read_pid(path: str) -> int:
    """The pid in a pid file, stale or not. Raises OSError, ValueError when there is none."""
    return int(Path(path).read_bytes()[:32])


def check_path(path: str) -> None:
    """See whether a start would get this pid file, and leave it as it is. For `--check`.

    Raises PidFileError; with TRY_LATER it is held.
    """
    try:
        fd = os.open(path, _FLAGS & ~os.O_CREAT)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _cannot(path, error) from error
    try:
        _check(path, fd)
        if not _lock(fd):
            raise PidFileError(_held(path, fd), ExitCode.TRY_LATER)
    finally:
        os.close(fd)


def _check(path: str, fd: int) -> None:
    """Refuse what somebody may have put there to be written to, or to have a pid signalled.

    Raises PidFileError.
    """
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise PidFileError(f"pid file '{path}': it is not a file", ExitCode.CANNOT_CREATE)
    if status.st_nlink > 1:
        text = f"pid file '{path}': it has another name too (a hard link); remove it"
        raise PidFileError(text, ExitCode.NO_PERMISSION)
    try:
        check_writers(path, status, "write its pid there")
    except Untrusted as error:
        raise PidFileError(f"pid file {error}", ExitCode.NO_PERMISSION) from None


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _content() -> bytes:
    return f"{os.getpid()}\n".encode()


def _held(path: str, fd: int) -> str:
    with contextlib.suppress(ValueError):
        return f"already running: pid file '{path}' is held by pid {int(os.pread(fd, 32, 0))}"
    return f"already running: pid file '{path}' is held by another process"


def _cannot(path: str, error: OSError) -> PidFileError:
    if error.errno == errno.ELOOP:
        problem = "it is a symbolic link; name the file itself"
    elif error.errno in (errno.EACCES, errno.EROFS, errno.ENOENT):
        problem = f"{error.strerror}; its directory must exist and this user may write there"
    else:
        problem = str(error.strerror)
    return PidFileError(f"pid file '{path}' cannot be created: {problem}", ExitCode.CANNOT_CREATE)
