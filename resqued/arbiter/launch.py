"""Launches fork servers; the first one before the arbiter's own slow imports.

A new interpreter needs a third of a second for rq and redis alone, while the arbiter reads the
configuration. So this module imports nothing that is slow. Runs in the arbiter.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from resqued import signals
from resqued.channel import Channel
from resqued.invocation import Invocation, explain_exec_error
from resqued.linux import identity
from resqued.messages import Inherited
from resqued.scoreboard import Scoreboard


@dataclass
class ForkServerHandle:
    """One fork server process."""

    generation: int
    pid: int
    channel: Channel
    dumps: int  # append memfd of its workers' stacks
    copied: int = 0  # bytes of it that are in the log
    dumps_is: tuple[int, int] | None = None
    env: Mapping[str, str] | None = None  # that it was started with; None after a re-exec
    closed_at: float | None = None


@dataclass
class Launched:
    """The first fork server, and what it shares with an arbiter that is still to be made."""

    scoreboard: Scoreboard
    doorbell: int
    server: ForkServerHandle
    taken: bool = False  # an arbiter has taken it over

    def abandon(self) -> None:
        """Kill it and close its descriptors, unless an arbiter has taken it.

        Called when the start fails, and in a daemon, which makes its own scoreboard.
        """
        if not self.taken:
            self.taken = True
            abandon(self.server)
            self.scoreboard.close()
            os.close(self.doorbell)


def abandon(server: ForkServerHandle) -> None:
    """Kill a fork server that has been given nothing yet, wait for it, close its descriptors."""
    os.kill(server.pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(server.pid, 0)
    server.channel.close()
    os.close(server.dumps)


def launch(
    generation: int,
    *,
    scoreboard: int,
    doorbell: int,
    log: Mapping[str, int],
    invocation: Invocation,
    env: Mapping[str, str],
) -> ForkServerHandle:
    """Exec a fork server with a channel and a memfd for stacks of its own. Raises OSError, and
    ValueError for an environment that cannot be."""
    dumps = os.memfd_create(f"resqued-stacks-{generation}", os.MFD_CLOEXEC)
    try:
        near, far = Channel.pair()
        with contextlib.ExitStack() as unless_started, far:
            unless_started.callback(near.close)
            pid = spawn_fork_server(
                generation=generation,
                channel_socket=far,
                scoreboard_fd=scoreboard,
                doorbell_fd=doorbell,
                dumps_fd=dumps,
                log=log,
                invocation=invocation,
                env=env,
            )
            unless_started.pop_all()
    except BaseException:
        os.close(dumps)
        raise
    return ForkServerHandle(generation, pid, near, dumps, dumps_is=identity(dumps), env=env)


def spawn_fork_server(
    *,
    generation: int,
    channel_socket: socket.socket,
    scoreboard_fd: int,
    doorbell_fd: int,
    dumps_fd: int,
    log: Mapping[str, int],
    invocation: Invocation,
    env: Mapping[str, str],
) -> int:
    """Start a fork server as this process was started; the arbiter waits for the pid returned.

    The descriptors keep their numbers; they are opened to the new process alone, so nothing else
    that a plugin's thread starts at this moment gets them. The caller closes `channel_socket`
    afterwards. Raises OSError when no process can be started, or without an interpreter.

    log: what `logs.fds()` gives.
    posix_spawn rather than Popen, which could reap this child or warn of it.
    """
    inherited = Inherited(
        generation=generation,
        arbiter=os.getpid(),
        channel=channel_socket.fileno(),
        scoreboard=scoreboard_fd,
        doorbell=doorbell_fd,
        dumps=dumps_fd,
        log=log["log"],
        cwd=invocation.directory,
    )
    command = invocation.fork_server(env, inherited.as_words())
    spawn = functools.partial(
        os.posix_spawn,
        command[0],
        command,
        env,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            # onto itself: clears close-on-exec, in the child only
            *((os.POSIX_SPAWN_DUP2, fd, fd) for fd in sorted(inherited.descriptors)),
        ],
        setsigmask=(),
        setsigdef=[*signals.HANDLED, signal.SIGPIPE, signal.SIGALRM, signal.SIGXFSZ],
    )
    try:
        # its own session, so that a terminal's job control does not stop workers
        return spawn(setsid=True)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOSYS):
            raise explain_exec_error(error, command[0]) from error
        return spawn(setpgroup=0)  # a sandbox refuses setsid


def make_doorbell() -> int:
    """Make the eventfd with which workers wake the arbiter. Raises OSError."""
    return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


def launch_first(invocation: Invocation) -> Launched | None:
    """Start the first generation's fork server, before the settings are read; it waits for them.

    Its log is standard error until the settings name a file. None when no process can
    be started: the arbiter tries again later, when it has a log.
    """
    scoreboard, doorbell = Scoreboard.create(), make_doorbell()
    try:
        server = launch(
            1,
            scoreboard=scoreboard.fd,
            doorbell=doorbell,
            log={"log": 2},
            invocation=invocation,
            env=dict(os.environ),
        )
    except OSError:
        scoreboard.close()
        os.close(doorbell)
        return None
    return Launched(scoreboard, doorbell, server)
