"""Warns of threads and connections that an application has left open in the fork server.

A thread does not survive a fork, but the locks that it holds stay locked in the child. A connection
is shared by all workers, which then read each other's answers.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import warnings
from pathlib import Path
from typing import Any, Final

from resqued import logs
from resqued.forkserver import children
from resqued.logs import LogEvent

_HARMLESS: Final = frozenset({"jemalloc_bg_thd"})
"""Names of threads of libraries that handle forks themselves."""

_CREDENTIALS: Final = struct.Struct("iII")  # struct ucred of unix(7): pid, uid, gid


def sockets() -> dict[int, int]:
    """All sockets of this process: inode and descriptor. proc_pid_fd(5)."""
    found: dict[int, int] = {}
    for entry in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError, ValueError):  # the listing's own descriptor
            kind, _, inode = str(entry.readlink()).partition(":")
            if kind == "socket":
                found[int(inode.strip("[]"))] = int(entry.name)
    return found


def warn_of_sockets(before: dict[int, int]) -> None:
    """Warn of connections by their peers. before: `sockets()` before the application was loaded."""
    opened = [fd for inode, fd in sockets().items() if inode not in before]
    peers = sorted(filter(None, map(_peer, opened)))
    if peers:
        logs.warning(
            f"the application left {len(peers)} connections open in the fork server, to"
            f" {', '.join(peers)}; its workers would share them, and read each other's answers."
            " Close them before the import ends, or open them in after_fork",
            LogEvent.FORK_SERVER_NOTICE,
        )


def _peer(fd: int) -> str | None:
    """The address of the peer; None for a listener, without a peer, or if it is this process."""
    try:
        with socket.socket(fileno=os.dup(fd)) as link:
            peer: Any = link.getpeername()
            if link.family != socket.AF_UNIX:
                host, port = peer[0], peer[1]
                return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            if link.type == socket.SOCK_DGRAM:  # to a logger, which does not answer
                return None
            raw = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except (OSError, IndexError, TypeError):
        return None
    pid = _CREDENTIALS.unpack(raw)[0]
    if pid == os.getpid():  # a pair, as event loops have
        return None
    return os.fsdecode(peer) if peer else f"a pair with pid {pid}"


def warn_of_threads() -> None:
    """Warn of threads by name.

    It forks a probe first: libraries such as OpenBLAS end their threads before a fork and start
    them again when needed.
    """
    python = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    if _native(python):
        children.probe()
    names = [f"{thread.name} ({_where(thread)})" for thread in python if thread.is_alive()]
    names += [f"{name} (native)" for name in _native(python)]
    if not names:
        return
    logs.warning(
        f"the application left {len(names)} threads running in the fork server:"
        f" {', '.join(names)}; no worker has them, and a lock one holds stays locked there."
        " Start them in after_fork",
        LogEvent.FORK_SERVER_NOTICE,
    )
    # Python 3.12 warns at every fork, without the names
    warnings.filterwarnings("ignore", ".*use of fork.*", DeprecationWarning)


def _native(python: list[threading.Thread]) -> list[str]:
    """Names of the threads that are not Python's."""
    known = {str(os.getpid()), *(str(thread.native_id) for thread in python)}
    names: list[str] = []
    for task in list(Path("/proc/self/task").iterdir()):
        with contextlib.suppress(OSError):  # it has ended
            if task.name not in known:
                names.append((task / "comm").read_text().strip())
    return [name for name in names if name not in _HARMLESS]


def _where(thread: threading.Thread) -> str:
    """What a thread runs: the module and name of its target, or its class."""
    target = getattr(thread, "_target", None) or type(thread)
    name = getattr(target, "__qualname__", type(target).__name__)
    return f"{getattr(target, '__module__', '?')}.{name}"
