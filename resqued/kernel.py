"""Check at the start what resqued needs of the system.

On other systems than Linux many modules of resqued cannot be imported, so this one imports only
what exists everywhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final


def missing() -> str:
    """Why resqued cannot run on this system, on one line, or an empty text. Leaves nothing open."""
    if sys.platform != "linux":
        return f"resqued needs Linux (memfd, eventfd, subreapers), and this is {sys.platform}"
    for name, attempt in _NEEDED.items():
        try:
            attempt()
        except (OSError, AttributeError) as error:
            why = error.strerror if isinstance(error, OSError) else "this Python does not have it"
            return (
                f"the system refuses {name}, which resqued needs: {why}"
                " (a seccomp profile, a limit, or a system that only looks like Linux)"
            )
    return ""


@contextlib.contextmanager
def _open(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


def _try_memfd() -> None:
    with _open(os.memfd_create("resqued-check", os.MFD_CLOEXEC)) as fd:
        os.ftruncate(fd, 1 << 24)  # as large as the scoreboard, and as empty


def _try_eventfd() -> None:
    with _open(os.eventfd(0, os.EFD_CLOEXEC)):
        pass


def _try_prctl() -> None:
    from resqued import linux

    linux.try_prctl()


def _try_sockets() -> None:
    import socket

    for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET):
        end.close()


def _try_waitid() -> None:
    with contextlib.suppress(ChildProcessError):  # as on a system that has waitid
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)


def _try_setpgid() -> None:
    try:
        os.setpgid(0, -1)
    except OSError as error:
        if error.errno != errno.EINVAL:  # expected, as there is no such group
            raise


def _try_flock() -> None:
    import fcntl

    with _open(os.memfd_create("resqued-check", os.MFD_CLOEXEC)) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _try_proc() -> None:
    Path("/proc/self/fd").stat()


def _try_null() -> None:
    with _open(os.open(os.devnull, os.O_RDWR)):
        pass


_NEEDED: Final[dict[str, Callable[[], None]]] = {
    "memfd_create": _try_memfd,
    "eventfd": _try_eventfd,
    "prctl": _try_prctl,
    "socketpair (SOCK_SEQPACKET)": _try_sockets,
    "waitid": _try_waitid,
    "setpgid": _try_setpgid,
    "flock": _try_flock,
    "/proc": _try_proc,
    os.devnull: _try_null,
}
