"""asyncio's event loop of the main thread, as a row of the boundary's table."""

from __future__ import annotations

import sys
from typing import Any


class EventLoop:
    """Whether `asyncio.get_event_loop()` answers with a loop that works.

    `asyncio.run` leaves none behind, and says that none is to be made; other jobs close theirs.
    In a process of its own the next job would not notice. A loop that is open stays: what a
    module keeps from job to job (a client, a session) may belong to it.
    """

    name = "event loop"
    by_import = True

    def __init__(self) -> None:
        self._usable = True
        self._open = False

    def take(self) -> None:
        local = _local()
        self._usable = not _is_spent(local)
        self._open = self._usable and getattr(local, "_loop", None) is not None

    def adopt(self) -> None:
        if not self.differs():
            self.take()
        else:  # what an import sets stays, but a loop that is over is of no use to anybody
            self.restore()

    def differs(self) -> bool:
        return self._usable and _is_spent(_local())

    def restore(self) -> None:
        """As before any loop; if there was one, a new one in its place."""
        policy = _policy()
        policy._local = type(policy)._Local()
        if self._open:
            policy.set_event_loop(policy.new_event_loop())


def _policy() -> Any:
    return getattr(sys.modules.get("asyncio.events"), "_event_loop_policy", None)


def _local() -> Any:
    """Where Python's own policy, or one derived from it, has the loop of this thread; or None."""
    policy = _policy()
    return None if policy is None or not hasattr(policy, "_Local") else policy._local


def _is_spent(local: Any) -> bool:
    if local is None:
        return False
    loop = local._loop
    if loop is None:
        return bool(getattr(local, "_set_called", False))
    return bool(loop.is_closed())
