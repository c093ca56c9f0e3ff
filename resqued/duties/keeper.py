"""The locks of duties with `once="fleet"`, kept also while a call lasts.

The loop takes a duty's lock before each call, and keeps it between calls. During a call a thread
does that. C code that keeps the interpreter's lock stops both; then another arbiter takes over, and
the token of the call is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from time import monotonic
from typing import Final

from resqued import originals
from resqued.broker.connection import make_connection
from resqued.broker.keeper_locks import LIFE, Hold, KeeperLocks
from resqued.config import Config

LOOK: Final = LIFE / 4
"""Seconds between two looks at the lock of another keeper."""

RENEW: Final = LIFE / 8
"""Seconds between two renewals by the loop; the thread does it if it is late by as much."""


class Keeper:
    """The keeper's side of one process."""

    def __init__(self, config: Config, identity: str, name: str) -> None:
        """name: of its clients, in CLIENT LIST. Starts the thread."""
        self._config = config
        self._name = name
        self._locks = KeeperLocks(make_connection(config, name), identity)
        # Of the kernel, as the thread: with gevent's, a call would have to switch.
        self._gate = originals.allocate_lock()
        originals.start_new_thread(self._renew_late, ())

    def lost(self, names: Iterable[str]) -> list[str]:
        """Those of these duties of which this process is not the keeper any more."""
        held = set(self._locks.held)
        return [name for name in names if name not in held]

    def hold(self, name: str) -> Hold:
        """Take a duty's lock, or keep it. Raises redis errors."""
        with self._gate:
            return self._locks.hold(name)

    def renew(self) -> None:
        """Keep the locks that were not confirmed lately. Raises redis errors."""
        for name in self._older_than(RENEW):
            self.hold(name)

    def set_due(self, name: str, token: int, seconds: float) -> None:
        """Note in Redis in how many seconds a duty is due. Raises redis errors."""
        with self._gate:
            self._locks.set_due(name, token, seconds)

    def release(self) -> None:
        """Let another arbiter take over at once. Raises redis errors."""
        with self._gate:
            self._locks.release()

    def _older_than(self, seconds: float) -> list[str]:
        return [
            name
            for name in self._locks.held
            if monotonic() - self._locks.confirmed(name) >= seconds
        ]

    def _renew_late(self) -> None:
        """Runs in the thread, as long as the process lives. It has a client of its own, since
        gevent ties each connection to a thread."""
        client = make_connection(self._config, self._name)
        while True:
            originals.sleep(RENEW)
            for name in self._older_than(2 * RENEW):
                with contextlib.suppress(Exception), self._gate:  # the loop logs an outage
                    self._locks.hold(name, client)
