"""The fork servers: exec, messages, signals, their ends. Runs in the arbiter.

It reports what happens as events; `resqued.core` decides.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from resqued import descendants, logs, messages
from resqued.arbiter.children import Children, is_child, wait_for
from resqued.arbiter.launch import ForkServerHandle, abandon, launch
from resqued.channel import Channel, Closed
from resqued.core import events
from resqued.core.events import Event, Heard
from resqued.core.state import WorkerHandle
from resqued.groups import Groups
from resqued.invocation import Invocation
from resqued.linux import identity
from resqued.logs import LogEvent
from resqued.messages import ToForkServer
from resqued.scoreboard import Scoreboard

MUTE: Final = 2.0
"""Seconds a fork server may live with its end of the channel closed."""


class ForkServers:
    """All fork servers, by generation, and the way to their workers.

    doorbell: the eventfd that workers write to when they are ready. invocation: how fork servers
    are started. first: one that has been launched already.
    """

    def __init__(
        self,
        scoreboard: Scoreboard,
        doorbell: int,
        invocation: Invocation,
        first: ForkServerHandle | None = None,
    ) -> None:
        self._first = first
        self.scoreboard = scoreboard
        self.doorbell = doorbell
        self.invocation = invocation
        self.running: dict[int, ForkServerHandle] = {}
        self._groups = Groups(grace=0)
        self.children = Children(scoreboard, self._groups)

    def launch_early(self, generation: int) -> None:
        """Start the first fork server before it is asked for, if none has been.

        Its interpreter starts while the plugins do. Nothing if there are no resources for it now.
        """
        if self._first is None:
            with contextlib.suppress(OSError):
                self._first = self._launch(generation, dict(os.environ))

    def spawn(self, generation: int, env: dict[str, str]) -> int:
        """Exec a fork server with this environment; its pid.

        The one that was started early is taken if it has the same. Raises OSError when the system
        has no resources for it.
        """
        server, self._first = self._first, None
        if server is not None and (server.generation, server.env) != (generation, env):
            logs.debug("a plugin has changed the environment: the fork server is started anew")
            abandon(server)
            server = None
        if server is None:
            server = self._launch(generation, env)
        self.running[generation] = server
        return server.pid

    def _launch(self, generation: int, env: dict[str, str]) -> ForkServerHandle:
        return launch(
            generation,
            scoreboard=self.scoreboard.fd,
            doorbell=self.doorbell,
            log=logs.fds(),
            invocation=self.invocation,
            env=env,
        )

    def wake(self) -> None:
        """Ring the doorbell: the loop turns. Safe in any thread."""
        with contextlib.suppress(OSError):  # its count is full, or it is replaced soon: it is awake
            os.eventfd_write(self.doorbell, 1)

    @property
    def unsettled(self) -> bool:
        """Whether a check is needed soon, without an event."""
        gone = any(server.closed_at is not None for server in self.running.values())
        return gone or self.children.has_strangers

    def send(self, generation: int, message: ToForkServer) -> None:
        """Send to a fork server; `receive` reports one that is gone. Raises ValueError, OSError."""
        server = self.running.get(generation)
        if server is not None:
            server.channel.send(message)

    def kill(self, generation: int) -> None:
        """SIGKILL a fork server. Its workers then drain, as children of the arbiter."""
        server = self.running.get(generation)
        if server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(server.pid, signal.SIGKILL)

    def end_all(self) -> None:
        """Kill every fork server and wait for its end. For a start that is refused."""
        if self._first is not None:
            abandon(self._first)
            self._first = None
        for server in self.running.values():
            self.kill(server.generation)
            os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
            self._groups.end(server.pid)
            os.waitpid(server.pid, 0)

    def kill_all(self, pids: Iterable[int]) -> None:
        """SIGKILL all of these with their groups, without waiting. At the very end."""
        for pid in pids:
            for kill in (os.killpg, os.kill):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    kill(pid, signal.SIGKILL)

    def signal_child(self, pid: int, signum: int) -> None:
        """A worker or a steward that is a child of the arbiter."""
        with contextlib.suppress(ProcessLookupError):  # the next reap reports its exit
            os.kill(pid, signum)

    def kill_group(self, slot: int, pid: int) -> None:
        """SIGKILL to a worker that is a child of the arbiter, with all that its job has started."""
        descendants.kill_worker(pid, self.scoreboard.read(slot))

    def receive(self, workers: list[WorkerHandle]) -> Iterator[Event]:
        """Messages of fork servers, and their ends, as events. Never blocks."""
        for server in list(self.running.values()):
            server.channel.flush()
            yield from self._messages(server)
            if not any(worker.generation == server.generation for worker in workers):
                # else workers that it leaves behind may use its helpers
                self._groups.end(server.pid)
            ended, status = wait_for(server.pid)
            if ended:
                yield from self._messages(server)  # what it sent before it ended
                yield self._buried(server, status, workers)
            elif server.closed_at is not None and time.monotonic() - server.closed_at > MUTE:
                self.kill(server.generation)

    def _messages(self, server: ForkServerHandle) -> Iterator[Event]:
        while server.closed_at is None:
            try:
                message = server.channel.receive()
                if message is None:
                    break
            except Closed:
                server.closed_at = time.monotonic()
            except (ValueError, KeyError, TypeError) as error:
                logs.error(f"gen={server.generation} fork server: {error}", LogEvent.ARBITER_NOTICE)
            else:
                if messages.is_from_fork_server(message):
                    yield Heard(server.generation, message)
                else:
                    name = type(message).__name__
                    logs.error(
                        f"gen={server.generation} fork server sent {name}: ignored",
                        LogEvent.ARBITER_NOTICE,
                    )

    def _buried(self, server: ForkServerHandle, status: int, workers: list[WorkerHandle]) -> Event:
        self.log_stacks()
        del self.running[server.generation]
        server.channel.close()
        if identity(server.dumps) == server.dumps_is:
            os.close(server.dumps)
        found = {
            worker.slot: record.pid
            for worker in workers
            if worker.generation == server.generation and worker.pid is None
            for record in [self.scoreboard.read(worker.slot)]
            if record.serial == worker.serial and is_child(record.pid)
        }
        serial, pid = self.scoreboard.newborn()
        newborn = {serial: pid} if is_child(pid) else {}
        return events.ForkServerGone(server.generation, status, found, newborn)

    def drop_unreachable(self) -> list[int]:
        """Kill fork servers whose channel was closed by other code; their generations."""
        dropped = [
            server
            for server in self.running.values()
            if server.closed_at is None and not server.channel.is_intact
        ]
        for server in dropped:
            server.closed_at = time.monotonic()
            self.kill(server.generation)
        return [server.generation for server in dropped]

    def find_scoreboard(self) -> bool:
        """Take the scoreboard's descriptor, which is lost here, from a fork server. proc(5)."""
        for server in self.running.values():
            with contextlib.suppress(OSError):
                for link in Path(f"/proc/{server.pid}/fd").iterdir():
                    if "resqued-scoreboard" in str(link.readlink()):
                        fd = os.open(link, os.O_RDWR | os.O_CLOEXEC)
                        if self.scoreboard.take_descriptor(fd):
                            return True
                        os.close(fd)
        return False

    def log_stacks(self) -> None:
        """Copy what workers' faulthandlers have written since the last time into the log."""
        for server in self.running.values():
            if identity(server.dumps) != server.dumps_is:
                continue
            size = os.fstat(server.dumps).st_size
            if size > server.copied:
                text = os.pread(server.dumps, min(size - server.copied, 256 * 1024), server.copied)
                server.copied = size
                lines = text.decode(errors="replace").rstrip()
                logs.warning(f"gen={server.generation} stacks:\n{lines}", LogEvent.ARBITER_NOTICE)

    def descriptors(self) -> list[int]:
        """Descriptors that a new image must inherit."""
        servers = self.running.values()
        return [fd for server in servers for fd in (server.channel.fileno(), server.dumps)]

    def as_plain(self) -> dict[str, Any]:
        """For a re-exec: pids, descriptor numbers, unsent packets."""
        return {
            str(server.generation): {
                "pid": server.pid,
                "channel": server.channel.fileno(),
                "backlog": server.channel.backlog,
                "received": server.channel.received,
                "dumps": server.dumps,
                "copied": server.copied,
            }
            for server in self.running.values()
        }

    def restore(self, plain: dict[str, Any]) -> None:
        """Restore the state of `as_plain`, in the new image of the same process."""
        for generation, server in plain.items():
            end = Channel(
                socket.socket(fileno=server["channel"]), server["backlog"], server["received"]
            )
            self.running[int(generation)] = ForkServerHandle(
                int(generation),
                server["pid"],
                end,
                server["dumps"],
                server["copied"],
                identity(server["dumps"]),
            )
        for fd in self.descriptors():
            os.set_inheritable(fd, False)
