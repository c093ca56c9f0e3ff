"""The descriptors that the arbiter's loop stands on, watched: a plugin may close what is not its.

`os.closerange(3, 4096)` in a hook, as libraries for daemons have it, takes away the pipe of
signals, the way to the fork servers, the scoreboard and the log. The loop would spin on them, or
be deaf. Runs in the arbiter.
"""

from __future__ import annotations

from resqued import logs
from resqued.arbiter.fork_servers import ForkServers
from resqued.arbiter.launch import make_doorbell
from resqued.linux import identity
from resqued.logs import logger
from resqued.mailbox import Mailbox


class Descriptors:
    """Looked at once a turn; costs a system call for each."""

    def __init__(self, mailbox: Mailbox, servers: ForkServers) -> None:
        self._mailbox = mailbox
        self._servers = servers
        self._doorbell_is = identity(servers.doorbell)

    def check(self) -> None:
        """Make anew what has been closed; a fork server that cannot be spoken to is replaced."""
        lost = []
        if self._mailbox.renew():
            lost.append("the pipe of signals")
        if identity(self._servers.doorbell) != self._doorbell_is:
            self._servers.doorbell = make_doorbell()
            self._doorbell_is = identity(self._servers.doorbell)
            lost.append("the doorbell")
        if not self._servers.scoreboard.is_ours:
            found = self._servers.find_scoreboard()
            lost.append("the scoreboard" if found else "the scoreboard, which nobody else has")
        lost += [f"the channel of gen={number}" for number in self._servers.drop_unreachable()]
        lost += logs.reopen_lost()
        if lost:
            logger.error(
                f"somebody has closed descriptors of the arbiter, a plugin: {', '.join(lost)};"
                " made anew, and fork servers that cannot be reached are replaced"
            )
