"""The pid file. The process that holds its lock is the running arbiter.

A pid alone proves nothing: in a container a stale pid often is that of the new arbiter itself. The
lock ends with the process. It belongs to the open file, so the descriptor is close-on-exec: a child
that inherited it would hold the lock too. Runs in the arbiter.
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

from resqued import logs
from resqued.exits import ExitCode
from resqued.linux import identity
from resqued.logs import LogEvent
from resqued.ownership import Untrusted, check_writers

_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_REPEAT: Final = 60.0
"""Seconds between two log lines that say the same of the pid file."""


class PidFileError(Exception):
    """The pid file cannot be acquired. `exit_code` is what the command exits with."""

    def __init__(self, message: str, exit_code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class PidFile:
    """The pid file of this process: locked, with its pid in it."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._logged: dict[str, float] = {}
        self.fd = fd  # handed over at a re-exec; changes when `check` makes the file again
        self._is = identity(fd)

    @classmethod
    def acquire(cls, path: str) -> Self:
        """Lock the file, made if need be, and write the pid. Raises PidFileError.

        Signal handlers must be installed before: a signal may come as soon as there is a pid.
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
                        Path(path).unlink()  # stale or empty, and locked by this process
                        raise
                    return taken
            except OSError as error:
                os.close(fd)
                raise _cannot(path, error) from error
            except PidFileError:
                os.close(fd)
                raise
            os.close(fd)  # its last owner removed it between this open and the lock

    @classmethod
    def adopt(cls, path: str, fd: int) -> Self:
        """Take over the descriptor that came through a re-exec, and the lock with it."""
        os.set_inheritable(fd, False)
        return cls(path, fd)

    def check(self) -> None:
        """Check that the file exists and is still the locked one, and restore it.

        Called about once a second; logs the same problem at most once a minute.
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
        """Remove the file if it is still the locked one, and release the lock."""
        with contextlib.suppress(OSError):
            if self._is_in_place():
                Path(self.path).unlink()  # first: without the lock it may be another's
        self._close()

    def _close(self) -> None:
        if identity(self.fd) == self._is:  # else other code has closed it, and may use the number
            os.close(self.fd)

    def _warn(self, what: str) -> None:
        now = time.monotonic()
        if now >= self._logged.get(what, -_REPEAT) + _REPEAT:
            self._logged[what] = now
            logs.warning(f"pid file '{self.path}' {what}", LogEvent.ARBITER_NOTICE)

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


def check_path(path: str) -> None:
    """Check whether a start could acquire this pid file, without a change. For `--check`.

    Raises PidFileError; with TRY_LATER if another arbiter holds it.
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
    """Refuse a file that another user may have put there, to be overwritten or to name a pid.

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
