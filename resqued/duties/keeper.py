"""The locks of duties with `once="fleet"`, kept also while a call lasts.

The loop holds a duty's lock anew before each call. A thread does it during a call, over a client of
its own. C code that keeps the interpreter's lock stops both; then another arbiter takes over, and
the token of the call is refused.
"""

from __future__ import annotations

import contextlib

# Bound before the application is loaded, which may replace them (gevent): a call may never switch.
from _thread import allocate_lock, start_new_thread
from time import monotonic, sleep
from typing import Final

from resqued.broker.connection import make_connection
from resqued.broker.keeper_locks import LIFE, Hold, KeeperLocks
from resqued.config import Config

RENEW: Final = LIFE / 4
"""Seconds between two renewals, and between two looks at the lock of another keeper."""


class Keeper:
    """The keeper's side of one process."""

    def __init__(self, config: Config, identity: str, name: str) -> None:
        """name: of the client, in CLIENT LIST. Starts the thread."""
        self._locks = KeeperLocks(make_connection(config, name), identity)
        self._gate = allocate_lock()
        start_new_thread(self._renew, ())

    def hold(self, name: str) -> Hold:
        """Take a duty's lock, or keep it. Raises redis errors."""
        with self._gate:
            return self._locks.hold(name)

    def set_due(self, name: str, token: int, seconds: float) -> None:
        """Note in Redis in how many seconds a duty is due. Raises redis errors."""
        with self._gate:
            self._locks.set_due(name, token, seconds)

    def release(self) -> None:
        """Let another arbiter take over at once. Raises redis errors."""
        with self._gate:
            self._locks.release()

    def _renew(self) -> None:
        """Runs in the thread, as long as the process lives."""
        while True:
            sleep(RENEW / 2)
            for name in self._locks.held:
                if monotonic() - self._locks.confirmed(name) < RENEW / 2:
                    continue
                with contextlib.suppress(Exception), self._gate:  # the loop logs an outage
                    self._locks.hold(name)
