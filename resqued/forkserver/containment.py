"""What a fork server does against hooks that do not end, or that spoil its process.

A hook is interrupted at its time limit (`plugins.limits`). One that cannot be ended takes the
process with it: its workers finish their jobs as children of the arbiter, which starts another fork
server of the same generation. After each hook, and in each turn of the loop, handlers, signal mask,
standard descriptors and an emptied environment are restored. Other descriptors that were closed
cannot be: the process ends.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Final

from resqued import logs
from resqued.exits import ExitCode
from resqued.linux import identity
from resqued.logs import LogEvent
from resqued.mailbox import Mailbox
from resqued.messages import Inherited
from resqued.plugins import standard_descriptors
from resqued.plugins.environment import KeptEnvironment
from resqued.plugins.limits import Call, limits
from resqued.scoreboard import Scoreboard
from resqued.signal_table import TABLE, InForkServer

_DRAINS: Final = frozenset(row.signum for row in TABLE if row.fork_server is InForkServer.DRAIN)


class ForkServerContainment:
    """Made once; `install` begins. is_leaving: whether this process leaves."""

    def __init__(
        self,
        mailbox: Mailbox,
        board: Scoreboard,
        given: Inherited,
        is_leaving: Callable[[], bool],
    ) -> None:
        self._mailbox = mailbox
        needed = {
            "the channel to the arbiter": given.channel,
            "the scoreboard": given.scoreboard,
            "the doorbell": given.doorbell,
            "the file of stacks": given.dumps,
        }
        self._needed = [(name, fd, identity(fd)) for name, fd in needed.items()]
        self._board = board
        self._is_leaving = is_leaving
        self._environment = KeptEnvironment()

    def install(self) -> None:
        """From here on hooks are held to their limits by this."""
        limits.is_stop_asked = self.is_stop_asked
        limits.resist = _resisted
        limits.remedy = "the fork server ends; its workers finish their jobs, another one starts"
        limits.restore = self.restore

    def is_stop_asked(self) -> bool:
        """Whether this process or the arbiter, as the scoreboard says, is leaving."""
        if self._is_leaving() or self._mailbox.holds(_DRAINS):
            return True
        with contextlib.suppress(Exception):  # a write may be under way
            return self._board.summary.read().get("state") in ("draining", "stopping")
        return False

    def restore(self, who: str) -> None:
        """Undo what a hook, or a thread, has done to this process."""
        undone = standard_descriptors.restore([os.getppid()])
        undone += [*self._mailbox.take_back(), *self._environment.restore()]
        undone += [f"closed {each}" for each in logs.reopen_lost()]
        for what in undone:
            logs.warning(f"{who} has {what}; undone", LogEvent.FORK_SERVER_NOTICE)
        if lost := [name for name, fd, known in self._needed if identity(fd) != known]:
            logs.critical(
                f"{who} has closed descriptors of the fork server: {', '.join(lost)};"
                f" {limits.remedy}",
                LogEvent.FORK_SERVER_NOTICE,
            )
            os._exit(ExitCode.GAVE_UP)


def _resisted(call: Call) -> None:
    logs.critical(
        f"{call.what} cannot be ended: the fork server leaves", LogEvent.FORK_SERVER_NOTICE
    )
    os._exit(ExitCode.GAVE_UP)
