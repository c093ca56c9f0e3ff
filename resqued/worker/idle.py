"""Waiting for a push, popping nothing.

A blocking pop of several queues takes the id out of Redis before anyone has it, so an idle
worker lets Redis tell it of a push and then takes the job by script. One push must not wake
all idle workers of a machine: of those with the same queues one, the leader, watches Redis,
the others wait for its lock. When the leader has a job it lets go and the next one leads.

The lock is a byte range of the scoreboard, one for each list of queues: every worker of any
generation has that file, a fork does not inherit the lock, and the kernel frees it when its
owner dies (fcntl(2), "Advisory record locking").
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import random
import time
from collections.abc import Sequence
from typing import Final

from rq.suspension import WORKERS_SUSPENDED

from resqued.broker.listener import Listener
from resqued.worker.signals import Signals, Woken

TURN: Final = 20.0
"""Longest wait, in seconds: heartbeats and an unprompted look at the queues come between."""

LOOK: Final = 0.5
"""Seconds between two looks where Redis does not tell of pushes."""

_LOCKS_AT: Final = 1 << 40  # far behind the scoreboard's records


class Waiter:
    """One worker's way to wait. fd: a file that all workers of the machine share.

    realm: what else tells queues of the same name apart, such as the server's URL.
    turn: longest wait, in seconds.
    """

    def __init__(
        self, signals: Signals, listener: Listener, fd: int, realm: str, turn: float = TURN
    ) -> None:
        self._signals = signals
        self._listener = listener
        self._fd = fd
        self._realm = realm
        self._turn = turn
        self._held: int | None = None

    def wait(
        self, lists: Sequence[str], of: tuple[str, int] | None = None, seconds: float = TURN
    ) -> None:
        """Until a key has changed, RQ is suspended, a signal has come, or the time is over.

        lists, of: as `Listener.watch` has them; not waited for if that says they have changed.
        Raises ConnectionError when the connection that would tell us is lost.
        """
        seconds = min(seconds, self._turn * random.uniform(0.7, 1.0))
        until = time.monotonic() + seconds
        if not self._lead(lists, seconds):
            return
        self._listener.open()
        if not self._listener.tracking:
            self._signals.sleep(min(seconds, LOOK))
            return
        if self._listener.watch(lists, WORKERS_SUSPENDED, of):
            return
        if not self._listener.tracking:  # it was refused, so nobody would tell us
            self._signals.sleep(min(seconds, LOOK))
            return
        while not (self._listener.pushed or self._signals.alert):
            left = until - time.monotonic()
            if left <= 0:
                break
            self._signals.wait(left, self._listener.descriptors)
            self._listener.read()

    def release(self) -> None:
        """Let another lead. Costs nothing when we do not."""
        if self._held is not None:
            held, self._held = self._held, None
            with contextlib.suppress(OSError):
                fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, held)

    def _lead(self, keys: Sequence[str], seconds: float) -> bool:
        """Become the leader, or find out that there is something else to do."""
        place = self._place(keys)
        if self._held == place:
            return True
        self.release()
        # From here on the lock may be ours without our knowing: a signal can raise between the
        # system call and the return.
        self._held = place
        try:
            self._signals.alarm_in(seconds)
            self._signals.undisturbed(lambda: fcntl.lockf(self._fd, fcntl.LOCK_EX, 1, place))
        except Woken:
            self.release()
            return False
        except OSError:  # the job before closed the descriptor, or there are no locks here
            self._held = None
            self._signals.sleep(min(seconds, LOOK))
            return False
        finally:
            self._signals.disarm()
        return True

    def _place(self, keys: Sequence[str]) -> int:
        name = "\0".join((self._realm, *sorted(keys))).encode()
        return _LOCKS_AT + int.from_bytes(hashlib.blake2b(name, digest_size=5).digest())
