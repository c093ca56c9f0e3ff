"""The stewards of a fork server: forked when the arbiter says so, listened to, reaped."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resqued import logs, messages
from resqued.channel import Channel, Closed
from resqued.config import Config
from resqued.forkserver import children
from resqued.signal_table import REOPEN

if TYPE_CHECKING:
    from resqued.messages import Inherited
    from resqued.scoreboard import Scoreboard
    from resqued.steward.boot import StewardBoot

StewardRun = Callable[["StewardBoot"], int]


@dataclass
class _RunningSteward:
    serial: int
    link: Channel


class Stewards:
    """The stewards that run. Usually one; two while a new one takes over.

    steward: runs a steward in its child. abandon: closes in a child what belongs to the fork
    server. identity: the arbiter's.
    """

    def __init__(
        self,
        given: Inherited,
        config: Config,
        board: Scoreboard,
        identity: str,
        steward: StewardRun,
        abandon: Callable[[], None],
    ) -> None:
        self._given = given
        self._config = config
        self._board = board
        self._identity = identity
        self._steward = steward
        self._abandon = abandon
        self._running: dict[int, _RunningSteward] = {}

    @property
    def pids(self) -> list[int]:
        return list(self._running)

    @property
    def links(self) -> list[Channel]:
        """Channels to poll."""
        return [running.link for running in self._running.values() if running.link.is_intact]

    def fork(self, serial: int) -> messages.StewardForked | messages.StewardNotForked:
        """Fork a steward; returns the answer for the arbiter."""
        near, far = Channel.pair()
        link = Channel(far)
        try:
            # No signal when the fork server dies: the steward goes on for the other workers.
            pid = children.fork(
                functools.partial(self._live, serial, near, link),
                abandon=self._abandon,
                orphaned=0,
            )
        except OSError as error:
            near.close()
            link.close()
            reason = os.strerror(error.errno or errno.EAGAIN)
            return messages.StewardNotForked(serial, reason)
        link.close()
        self._running[pid] = _RunningSteward(serial, near)
        return messages.StewardForked(serial, pid)

    def signal(self, serial: int, signum: int) -> None:
        """Signal a steward that is not reaped yet."""
        for pid, running in self._running.items():
            if running.serial == serial:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signum)

    def reopen(self) -> None:
        """Have them reopen their log files."""
        for running in self._running.values():
            self.signal(running.serial, REOPEN)

    def heard(self) -> list[messages.Message]:
        """Messages that have arrived from them."""
        found: list[messages.Message] = []
        for running in self._running.values():
            with contextlib.suppress(Closed):  # its end is handled when it is reaped
                while (message := running.link.receive()) is not None:
                    found.append(message)
        return found

    def ended(self, pid: int, status: int) -> messages.StewardExited:
        """A steward has been reaped; returns the message for the arbiter."""
        running = self._running.pop(pid)
        running.link.close()
        return messages.StewardExited(running.serial, status)

    def abandon(self) -> None:
        """Runs in a child: close the fork server's ends."""
        for running in self._running.values():
            running.link.close()

    def _live(self, serial: int, near: Channel, link: Channel) -> int:
        """Runs in the steward."""
        from resqued.steward.boot import StewardBoot

        self._board.set_newborn(serial, os.getpid())
        near.close()
        logs.set_who(f"steward={serial} pid={os.getpid()}")
        return self._steward(
            StewardBoot(
                config=self._config,
                identity=self._identity,
                arbiter=self._given.arbiter,
                serial=serial,
                board=self._board,
                doorbell=self._given.doorbell,
                link=link,
            )
        )
