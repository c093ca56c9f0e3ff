"""Re-exec in place (USR2): check that a new image would start, hand the state over, exec.

The PID, the pid file and its lock, the fork servers and their workers stay. The state travels in
a memfd whose number is in RESQUED_HANDOVER; descriptors keep their numbers.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Any, Final, Self

from resqued import logs, signals
from resqued.arbiter.active_config import ActiveConfig
from resqued.arbiter.control import Control
from resqued.arbiter.fork_servers import ForkServers
from resqued.arbiter.pidfile import PidFile
from resqued.core import handover
from resqued.core.core import Core
from resqued.core.state import State
from resqued.invocation import explain_exec_error
from resqued.mailbox import Mailbox
from resqued.plugins.errors import describe
from resqued.plugins.failures import HookFailed
from resqued.scoreboard import VERSION
from resqued.signal_table import TABLE, row_of
from resqued.verdicts import ConfigError

VARIABLE: Final = "RESQUED_HANDOVER"
"""The environment variable that holds the memfd's number."""


@dataclass(frozen=True)
class Handover:
    """What one image leaves to the next."""

    protocol: int
    state: State
    scoreboard: int
    doorbell: int
    log: int
    cwd: str
    servers: dict[str, Any]
    pidfile: int | None
    pidfile_path: str | None
    control: int | None  # the listening socket
    control_path: str
    signals: tuple[str, ...]  # that arrived just before the exec
    wakeup: int | None = None  # the pipe with those that arrived during it
    silenced: dict[str, str] = field(default_factory=dict)  # as `plugins.hooks.silenced`
    recent: list[dict[str, Any]] = field(default_factory=list)  # as `arbiter.recent` keeps them

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Raises ValueError, KeyError or TypeError for another version's."""
        plain = json.loads(raw)
        if plain["protocol"] != VERSION:
            raise ValueError(
                f"its state is of version {plain['protocol']}, this resqued speaks {VERSION};"
                " restart it instead"
            )
        plain["state"] = handover.restore(plain["state"])
        plain["signals"] = tuple(plain["signals"])
        return cls(**plain)


def verify_handover(environ: Mapping[str, str]) -> list[str]:
    """Errors in the state that a running arbiter would hand to this process. Under --check."""
    try:
        Handover.decode(_read(int(environ[VARIABLE])))
    except (ValueError, KeyError, TypeError, OSError) as error:
        return [f"the running arbiter's state cannot be taken over: {describe(error)}"]
    return []


def take(environ: MutableMapping[str, str]) -> Handover | None:
    """The predecessor's state, if this process is the new image of an arbiter; only once."""
    number = environ.pop(VARIABLE, None)
    if number is None:
        return None
    found = Handover.decode(_read(int(number)))
    os.close(int(number))
    if found.wakeup is not None:
        arrived = tuple(row_of(signum).name for signum in _drained(found.wakeup))
        found = replace(found, signals=(*found.signals, *arrived))
    for fd in (found.scoreboard, found.doorbell, found.log, found.pidfile):
        if fd is not None and fd > 2:
            os.set_inheritable(fd, False)
    return found


def silenced(environ: Mapping[str, str]) -> dict[str, str]:
    """The plugins in a handover whose hooks the new image must not call, before it loads any."""
    if VARIABLE not in environ:
        return {}
    found: dict[str, str] = json.loads(_read(int(environ[VARIABLE]))).get("silenced", {})
    return found


def log_descriptor(environ: Mapping[str, str]) -> int | None:
    """The log's descriptor in a handover, for `logs.set_up` before the arbiter is made."""
    if VARIABLE not in environ:
        return None
    return int(json.loads(_read(int(environ[VARIABLE])))["log"])


def _drained(wakeup: int) -> list[int]:
    """The signals in the pipe of the image before; closes it."""
    found = b""
    with contextlib.suppress(OSError):  # it is empty
        while chunk := os.read(wakeup, 4096):
            found += chunk
    with contextlib.suppress(OSError):
        os.close(wakeup)
    return [signum for signum in found if any(row.signum == signum for row in TABLE)]


def _read(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


class Reexec:
    """Runs the check in a child, then the exec. In the arbiter."""

    def __init__(
        self,
        core: Core,
        servers: ForkServers,
        active: ActiveConfig,
        control: Control,
        mailbox: Mailbox,
    ) -> None:
        self._core = core
        self._servers = servers
        self._active = active
        self._control = control
        self._mailbox = mailbox
        self._argv: list[str] = []
        self._env: dict[str, str] = {}
        self._checking: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        self._deadline = 0.0

    def helpers(self) -> set[int]:
        """The pid of the check, if one runs."""
        return {self._checking.pid} if self._checking is not None else set()

    def check(self, pidfile: PidFile | None) -> str:
        """Have `before_exec` prepare argv and env, and `--check` exactly these in a child.

        Returns why the check cannot begin; empty when it runs.
        """
        argv, env = self._servers.invocation.again(os.environ), dict(os.environ)
        try:
            self._active.hooks.demand("before_exec", arbiter=self._control.view, argv=argv, env=env)
        except (HookFailed, ConfigError) as error:
            return str(error)
        self._argv, self._env = argv, env
        try:
            with os.fdopen(self._write(pidfile, (), {}), "rb") as state:
                self._output = os.fdopen(os.memfd_create("resqued-check", os.MFD_CLOEXEC), "w+b")
                self._checking = subprocess.Popen(
                    [*argv, "--check"],
                    env={**env, VARIABLE: str(state.fileno())},
                    stdin=subprocess.DEVNULL,
                    stdout=self._output,
                    stderr=subprocess.STDOUT,
                    pass_fds=[state.fileno()],
                    cwd=self._servers.invocation.directory,
                    process_group=0,
                )
        except (OSError, ValueError, TypeError) as error:  # also what `before_exec` made of them
            self.give_up()
            return f"its check cannot be started: {describe(error)}"
        self._deadline = time.monotonic() + self._active.config.boot_timeout
        return ""

    def poll(self, now: float) -> str | None:
        """The error of a check that has ended, empty for success; None while it runs."""
        if self._checking is None or self._output is None:
            return None
        code = self._checking.poll()
        if code is None and now < self._deadline:
            return None
        self._output.seek(0)
        said = self._output.read().decode(errors="replace").strip()
        self.give_up()
        if code is None:
            return f"its check took longer than {self._active.config.boot_timeout:g} s"
        if code != 0:
            how = f"signal {-code}" if code < 0 else f"exit status {code}"
            return f"its check failed ({how}, {' '.join([*self._argv, '--check'])})\n{said}"
        return ""

    def give_up(self) -> None:
        """End the check; if it still runs, it and what it has started are killed."""
        if self._checking is not None:
            if self._checking.poll() is None:
                os.killpg(self._checking.pid, signal.SIGKILL)
                self._checking.wait()
                with contextlib.suppress(ChildProcessError):  # its orphans are children of this one
                    while os.waitpid(-self._checking.pid, os.WNOHANG)[0]:
                        pass
            self._checking = None
        if self._output is not None:
            self._output.close()
            self._output = None

    def replace(self, pidfile: PidFile | None) -> str:
        """Exec the new image. Returns only on a failure, with the reason."""
        return self._exec(pidfile, self._argv, self._env, (), {})

    def force(
        self,
        pidfile: PidFile | None,
        environ: Mapping[str, str],
        waiting: Sequence[int],
        silenced: dict[str, str],
    ) -> str:
        """Exec this image again, without a check, while a hook runs that does not end.

        environ: of the new image. waiting: signals that were collected and not acted on. silenced:
        plugins whose hooks it must not call. Runs in SIGALRM's handler or in another thread.
        Returns only on a failure, with the reason.
        """
        self.give_up()
        argv = self._servers.invocation.again(environ)
        return self._exec(pidfile, argv, environ, waiting, silenced)

    def _exec(
        self,
        pidfile: PidFile | None,
        argv: list[str],
        environ: Mapping[str, str],
        waiting: Sequence[int],
        silenced: dict[str, str],
    ) -> str:
        # What arrives from here on waits for the new image's handlers, or, if another thread takes
        # it, in the pipe.
        with signals.held():
            late = [*waiting, *self._mailbox.collect()]
            inherit = [
                self._servers.scoreboard.fd,
                self._servers.doorbell,
                self._mailbox.fileno(),
                logs.fds()["log"],
                *self._servers.descriptors(),
                *([pidfile.fd] if pidfile is not None else []),
                *([listener] if (listener := self._control.listener) is not None else []),
            ]
            state = -1
            try:
                state = self._write(pidfile, late, silenced)
                for fd in (state, *inherit):
                    os.set_inheritable(fd, True)
                os.chdir(self._servers.invocation.directory)
                os.execve(argv[0], argv, {**environ, VARIABLE: str(state)})
            except OSError as error:
                if state >= 0:
                    os.close(state)
                for fd in inherit:
                    if fd > 2:
                        os.set_inheritable(fd, False)
                for signum in late[len(waiting) :]:
                    signal.raise_signal(signum)  # this image has to handle it
                return f"exec of {argv[0]}: {explain_exec_error(error, argv[0]).strerror}"
        return ""

    def _write(self, pidfile: PidFile | None, late: Sequence[int], silenced: dict[str, str]) -> int:
        """Write the current state to a new memfd; its descriptor."""
        fd = os.memfd_create("resqued-handover", os.MFD_CLOEXEC)
        plain = {
            "protocol": VERSION,
            "state": handover.dump(self._core.state),
            "scoreboard": self._servers.scoreboard.fd,
            "doorbell": self._servers.doorbell,
            "log": logs.fds()["log"],
            "cwd": self._servers.invocation.directory,
            "servers": self._servers.as_plain(),
            "pidfile": pidfile.fd if pidfile is not None else None,
            "control": self._control.listener,
            "control_path": self._control.path,
            "pidfile_path": str(pidfile.path) if pidfile is not None else None,
            "signals": [row_of(signum).name for signum in late],
            "wakeup": self._mailbox.fileno(),
            "silenced": silenced,
            "recent": self._control.recent.as_plain(),
        }
        raw = json.dumps(plain).encode()
        while raw:
            raw = raw[os.write(fd, raw) :]
        return fd
