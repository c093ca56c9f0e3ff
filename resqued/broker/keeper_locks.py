"""The locks of duties of which one process of all arbiters is the keeper.

A keeper has a token: a number that is greater than those of all keepers before, also after Redis
has lost what it knew, since none is below Redis's clock in milliseconds. Which token is in force
stands in one hash without expiry, so that a write can be refused (`fence`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import redis
from rq.defaults import RQ_KEY_PREFIX

from resqued.broker.wire import read_script

KEEPERS: Final = f"{RQ_KEY_PREFIX}:resqued:keepers"
"""Hash. `token NAME`: the newest token of a duty; `duty TOKEN`: its name; `due NAME`: when it is to
be called next, in Unix seconds of Redis's clock; `last`: the newest token of all."""

LOCK: Final = f"{RQ_KEY_PREFIX}:resqued:keeper:"
"""Prefix of the key of a duty's lock; its value is `TOKEN ARBITER`."""

LIFE: Final = 14.0
"""Seconds that a lock outlives its keeper: another takes over within 15."""

_HOLD: Final = read_script("keeper")
_RELEASE: Final = read_script("keeper_release")


def token_field(name: str) -> str:
    return f"token {name}"


def duty_field(token: int) -> str:
    return f"duty {token}"


@dataclass(frozen=True)
class Hold:
    """The answer for one duty. token: 0 if another process is the keeper. wait: seconds, until its
    lock ends, or, if this process is the keeper, until the duty is due."""

    token: int
    wait: float


class KeeperLocks:
    """The locks as one process has them. holder: the arbiter's identity, whose processes take over
    from each other at once."""

    def __init__(self, connection: redis.Redis, holder: str) -> None:
        self._holder = holder
        self._connection = connection
        self._known: dict[str, int] = {}  # the last token of this process, by duty
        self._held: dict[str, float] = {}  # when the lock was last confirmed (monotonic)
        self._hold = connection.register_script(_HOLD)
        self._release = connection.register_script(_RELEASE)

    @property
    def held(self) -> list[str]:
        """The duties of which this process is the keeper, as far as it knows."""
        return list(self._held)

    def confirmed(self, name: str) -> float:
        """When a lock was last confirmed, on the monotonic clock; 0 for one that is not held."""
        return self._held.get(name, 0.0)

    def hold(self, name: str, client: redis.Redis | None = None) -> Hold:
        """Take a lock, or keep it. client: another one, for another thread. Raises redis errors."""
        began = time.monotonic()
        args: list[Any] = [name, self._holder, round(LIFE * 1000), self._known.get(name, 0)]
        answer: Any = self._hold(keys=[KEEPERS, LOCK + name], args=args, client=client)
        token, wait = int(answer[0]), max(0, int(answer[1])) / 1000
        if token:
            self._known[name], self._held[name] = token, began
        else:
            self._held.pop(name, None)
        return Hold(token, wait)

    def set_due(self, name: str, token: int, seconds: float) -> None:
        """Note in how many seconds a duty is due, unless there is a newer keeper. Raises redis
        errors."""
        self._release(
            keys=[KEEPERS, LOCK + name], args=["due", name, self._holder, token, f"{seconds:.3f}"]
        )

    def release(self) -> None:
        """Give up all locks that this process holds. Raises redis errors."""
        for name in self.held:
            del self._held[name]
            args: list[Any] = ["release", name, self._holder, self._known[name], ""]
            self._release(keys=[KEEPERS, LOCK + name], args=args)
