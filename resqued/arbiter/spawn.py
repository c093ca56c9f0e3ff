"""Starting a fork server: exec of a fresh interpreter. Runs in the arbiter, which never forks."""

from __future__ import annotations

import errno
import functools
import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

from resqued import signals
from resqued.invocation import Invocation, told_apart


@dataclass(frozen=True)
class Inherited:
    """What a fork server gets besides fds 0, 1 and 2: descriptor numbers, and who started it.

    It travels as `name=value` words in argv, which is why no setting is in it.
    """

    generation: int
    arbiter: int  # pid
    channel: int
    scoreboard: int
    doorbell: int
    dumps: int
    log: int
    cwd: str

    def as_words(self) -> list[str]:
        return [f"{name}={value}" for name, value in asdict(self).items()]

    @classmethod
    def from_words(cls, words: list[str]) -> Self:
        """Raises ValueError, KeyError for what an arbiter would not have written."""
        values = dict(word.split("=", 1) for word in words)
        cwd = values.pop("cwd")
        return cls(**{name: int(value) for name, value in values.items()}, cwd=cwd)

    @property
    def descriptors(self) -> frozenset[int]:
        return frozenset({self.channel, self.scoreboard, self.doorbell, self.dumps, self.log})


def spawn_fork_server(
    *,
    generation: int,
    channel_socket: socket.socket,
    scoreboard_fd: int,
    doorbell_fd: int,
    dumps_fd: int,
    log: Mapping[str, int],
    invocation: Invocation,
) -> int:
    """Start a fork server as this process was started; the arbiter waits for the pid returned.

    The descriptors keep their numbers; they are opened to the new process alone, so nothing else
    that a plugin's thread starts at this moment gets them. The caller closes `channel_socket`
    afterwards. Raises OSError when there is no process to be had, or no interpreter.

    log: what `logs.fds()` gives.
    posix_spawn rather than Popen: nobody but the arbiter may warn of this child, or reap it.
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
    command = invocation.fork_server(os.environ, inherited.as_words())
    spawn = functools.partial(
        os.posix_spawn,
        command[0],
        command,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            # onto itself: clears close-on-exec, in the child only
            *((os.POSIX_SPAWN_DUP2, fd, fd) for fd in sorted(inherited.descriptors)),
        ],
        setsigmask=(),
        setsigdef=[*signals.HANDLED, signal.SIGPIPE, signal.SIGALRM, signal.SIGXFSZ],
    )
    try:
        # a session of its own: no terminal's job control for workers, who are in no foreground
        return spawn(setsid=True)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOSYS):
            raise told_apart(error, command[0]) from error
        return spawn(setpgroup=0)  # a sandbox refuses setsid
