"""Checks the descriptors that the arbiter's loop needs, since a plugin may close them.

`os.closerange(3, 4096)` in a hook, which libraries for daemons call, closes the wakeup pipe, the
channels to fork servers, the scoreboard and the log. The loop would then spin, or get no signals.
Runs in the arbiter.
"""

from __future__ import annotations

from resqued import logs
from resqued.arbiter.control import Control
from resqued.arbiter.fork_servers import ForkServers
from resqued.arbiter.launch import make_doorbell
from resqued.linux import identity
from resqued.logs import LogEvent
from resqued.mailbox import Mailbox


class Descriptors:
    """The descriptors; a check is one system call for each."""

    def __init__(self, mailbox: Mailbox, servers: ForkServers, control: Control) -> None:
        self._mailbox = mailbox
        self._control = control
        self._servers = servers
        self._doorbell_is = identity(servers.doorbell)

    def relatives(self) -> list[int]:
        """Pids of the fork servers, which have the same standard output and error."""
        return [server.pid for server in self._servers.running.values()]

    def check(self) -> None:
        """Open again what was closed; a fork server whose channel was closed is replaced."""
        lost = []
        if self._mailbox.renew():
            lost.append("the pipe of signals")
        if identity(self._servers.doorbell) != self._doorbell_is:
            self._servers.doorbell = make_doorbell()
            self._doorbell_is = identity(self._servers.doorbell)
            lost.append("the doorbell")
        if not self._servers.scoreboard.is_intact:
            lost.append("the scoreboard")
            if not self._servers.find_scoreboard():
                self._servers.scoreboard.renew()
                for generation in self._servers.running:
                    self._servers.kill(generation)  # it has another one
        lost += [f"the channel of gen={number}" for number in self._servers.drop_unreachable()]
        if self._control.mend():
            lost.append("the control socket")
        lost += logs.reopen_lost()
        if lost:
            logs.error(
                f"a plugin has closed descriptors of the arbiter: {', '.join(lost)};"
                " opened again, and fork servers that cannot be reached are replaced",
                LogEvent.ARBITER_NOTICE,
            )
