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
from pathlib import Path
from typing import Final, Self

from resqued.exits import ExitCode
from resqued.logs import logger

_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class PidFileError(Exception):
    """The pid file cannot be had. `exit_code` is what the command exits with."""

    def __init__(self, message: str, exit_code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class PidFile:
    """A pid file that is ours: locked, with our pid in it."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd  # to hand over a re-exec; another one when `check` made the file anew

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
                if not _lock(fd):
                    raise PidFileError(_held(path, fd), ExitCode.TRY_LATER)
                if taken._is_in_place():
                    taken._write()
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
        """See that the file is still there and ours, and put it right. About once a minute."""
        try:
            if self._is_in_place():
                if os.pread(self.fd, 32, 0) != _content():
                    logger.warning(f"pid file '{self.path}' had been overwritten, written again")
                    self._write()
                return
            fd = os.open(self.path, _FLAGS, 0o644)
        except OSError as error:
            logger.warning(f"pid file '{self.path}' is gone: {error.strerror}")
            return
        if not _lock(fd):
            logger.warning(f"pid file '{self.path}' now belongs to another: {_held(self.path, fd)}")
            os.close(fd)
            return
        logger.warning(f"pid file '{self.path}' had been removed or replaced, written again")
        os.close(self.fd)
        self.fd = fd
        with contextlib.suppress(OSError):  # a full disk; the next check tries again
            self._write()

    def release(self) -> None:
        """Remove the file if it is still ours, and let go of the lock."""
        with contextlib.suppress(OSError):
            if self._is_in_place():
                Path(self.path).unlink()  # before the lock goes: then it would be another's
        os.close(self.fd)

    def _is_in_place(self) -> bool:
        try:
            there = Path(self.path).lstat()
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(self.fd))

    def _write(self) -> None:
        content = _content()
        os.pwrite(self.fd, content, 0)
        os.ftruncate(self.fd, len(content))
        os.fsync(self.fd)


def read_pid(path: str) -> int:
    """The pid in a pid file, stale or not. Raises OSError, ValueError when there is none."""
    return int(Path(path).read_bytes()[:32])


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
