"""What plugins and `resquedctl` ask of the arbiter: the view with its verbs, the control socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from typing import Final

from resqued import logs
from resqued.arbiter.active_config import ActiveConfig
from resqued.arbiter.control_server import ControlServer
from resqued.arbiter.control_verbs import ControlVerbs
from resqued.arbiter.inbox import Inbox, PostedCall
from resqued.arbiter.loop_delay import LoopDelay
from resqued.arbiter.periodic import Periodic
from resqued.arbiter.recent import Recent
from resqued.arbiter.view import ArbiterView
from resqued.control import place
from resqued.core import events
from resqued.core.state import State
from resqued.logs import LogEvent
from resqued.scoreboard import Scoreboard

Do = Callable[[events.Event], None]

_NONE: Final = ControlServer(None, "", lambda request: {}, dict)


class Control:
    """Made in the thread of the arbiter's loop, which calls all of it.

    wake: ends the wait of the loop, from any thread.
    """

    def __init__(
        self, active: ActiveConfig, state: State, board: Scoreboard, wake: Callable[[], None]
    ) -> None:
        self.inbox = Inbox(wake)
        self.periodic = Periodic()
        self.delay = LoopDelay()
        self.view = ArbiterView(active, state, board, self.inbox, self.periodic, self.delay)
        self._active = active
        self.recent = Recent()
        logs.listen(self.recent.note)
        self._verbs = ControlVerbs(active, state, self.inbox, self.view, self.recent)
        self._server = _NONE

    @property
    def path(self) -> str:
        """Of the socket; empty if there is none."""
        return self._server.path

    @property
    def listener(self) -> int | None:
        """The descriptor of the socket, for a re-exec."""
        listener = self._server.listener
        return listener.fileno() if listener is not None else None

    def open(self, inherited: tuple[int, str] | None = None) -> None:
        """Make the socket, or take over that of the image before a re-exec. One that cannot be made
        is told once."""
        named = self._active.config.control
        if inherited is not None:
            listener, path = socket.socket(fileno=inherited[0]), inherited[1]
            listener.set_inheritable(False)
            listener.setblocking(False)
        elif named == "":
            return
        else:
            try:
                listener, path = place.listen(named, os.environ, os.getpid())
            except place.NoPlace as error:
                logs.info(
                    f"no control socket, so resquedctl has only signals: {error}",
                    LogEvent.ARBITER_NOTICE,
                )
                return
        self._server = ControlServer(listener, path, self._verbs.act, self._verbs.facts)

    def mend(self) -> bool:
        """Make the socket again if a plugin has closed it; whether it had."""
        if self._server.is_intact():
            return False
        self._server.forget()
        self._server = _NONE
        self.open()
        return True

    def polled(self) -> Iterator[tuple[int, int]]:
        """Descriptors, and what to poll each for."""
        return self._server.polled()

    def read(self, do: Do) -> bool:
        """Have the core decide on what has been asked for; whether there was something."""
        self._server.read()
        asked = False
        for posted in self.inbox.take():
            asked = True
            if isinstance(posted, PostedCall):
                posted.request.end(self._active.hooks.run(posted.plugin, posted.function))
            else:
                do(posted)
        self._server.answer()
        return asked

    def answer(self) -> None:
        """Answer clients of the socket whose requests have ended."""
        self._server.answer()

    def close(self) -> None:
        """The loop has ended: refuse what is open, and remove the socket."""
        self.inbox.close()
        self._server.close()
