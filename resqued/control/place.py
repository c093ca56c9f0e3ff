"""Where the control socket of an arbiter lies: one socket an arbiter, named by its pid.

The first of these folders that can be used: $RUNTIME_DIRECTORY (of systemd), that of the user in
$XDG_RUNTIME_DIR, /run/resqued for root, and one of the user's own in the temporary directory. Never
the working directory. A folder must belong to the user, and nobody else may write to it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from resqued.ownership import user_name

_LONGEST: Final = 107
"""Bytes of a socket's path. unix(7)."""


class NoPlace(Exception):
    """No socket can be made. The message says why."""


def listen(named: str | None, environ: Mapping[str, str], pid: int) -> tuple[socket.socket, str]:
    """A listening socket, of mode 0600, and its path. named: the setting; None: choose.

    A socket at this path that nobody listens on, and that is the user's, is replaced. Runs in the
    arbiter. Raises NoPlace.
    """
    problems = []
    for folder, name in _candidates(named, environ, pid):
        try:
            if named is None:
                _check_folder(folder)
                _sweep(folder)
            return _bind(str(folder / name))
        except (OSError, NoPlace) as error:
            problems.append(str(error))
    raise NoPlace("; ".join(problems) or "there is no folder for it")


def _candidates(
    named: str | None, environ: Mapping[str, str], pid: int
) -> Iterator[tuple[Path, str]]:
    if named is not None:
        yield Path(named).parent, Path(named).name
        return
    name = f"{pid}.sock"
    runtime = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if runtime:
        yield Path(runtime), name
    if user := environ.get("XDG_RUNTIME_DIR"):
        yield Path(user, "resqued"), name
    if os.geteuid() == 0:
        yield Path("/run/resqued"), name
    temporary = environ.get("TMPDIR") or "/tmp"
    yield Path(temporary, f"resqued-{os.geteuid()}"), name


def _check_folder(folder: Path) -> None:
    """Make it if it is missing. Raises OSError, NoPlace if others could write to it."""
    if not folder.is_absolute():
        raise NoPlace(f"{folder}: not an absolute path")
    if not os.path.lexists(folder):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise NoPlace(f"{folder}: not a folder")
    if status.st_uid != os.geteuid():
        raise NoPlace(f"{folder}: it belongs to {user_name(status.st_uid)}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NoPlace(f"{folder}: others may write to it (mode {stat.S_IMODE(status.st_mode):o})")


def _bind(path: str) -> tuple[socket.socket, str]:
    if len(os.fsencode(path)) > _LONGEST:
        raise NoPlace(f"{path}: longer than {_LONGEST} bytes")
    _remove_dead(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        os.fchmod(listener.fileno(), 0o600)  # before it has a name: others never see it open
        listener.bind(path)
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"{path}: {os.strerror(error.errno or 0)}") from error
    listener.setblocking(False)
    return listener, path


def _sweep(folder: Path) -> None:
    """Remove the sockets that killed arbiters have left in a folder of the user's own.

    Whether one is dead is tried, not seen from its pid, which may be of another pid namespace.
    """
    for path in folder.glob("*.sock"):
        if path.stem.isdecimal():
            with contextlib.suppress(OSError, NoPlace):
                _remove_dead(str(path))


def _remove_dead(path: str) -> None:
    """Unlink a socket of the user's on which nobody listens. Raises NoPlace for anything else."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode) or status.st_uid != os.geteuid():
        raise NoPlace(f"{path}: there is something else, which is left as it is")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)  # noqa: PTH108
            return
        except OSError:
            pass  # its queue is full, or it is of another type: somebody listens
    raise NoPlace(f"{path}: another process listens there")
