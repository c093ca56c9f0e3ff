"""End what is left in the process group of a worker that has ended."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Final

from resqued import linux

GRACE: Final = 1.0
"""Seconds between SIGTERM and SIGKILL, after a worker that has exited normally."""

_LOOK: Final = 0.05  # seconds between two checks whether a group is empty


class Groups:
    """The process groups that are being ended. Runs in the process that reaps workers: fork server
    or arbiter. A group keeps its number while it has a member, and the kernel gives no new process
    that number as its pid. grace: seconds between SIGTERM and SIGKILL; 0: SIGKILL at once."""

    def __init__(self, grace: float = GRACE) -> None:
        self._grace = grace
        self._ending: dict[int, float] = {}
        self._look_at = 0.0

    def __len__(self) -> int:
        return len(self._ending)

    @property
    def deadline(self) -> float | None:
        """When to call `turn`, on the monotonic clock; None: there is nothing to do."""
        return self._look_at if self._ending else None

    def end(self, leader: int) -> None:
        """End the rest of a child's group, if the child has ended. Call it before the child is
        reaped, while the kernel keeps its pid, and so the group's number. If the child was killed
        or has crashed, the rest is killed at once."""
        with contextlib.suppress(ChildProcessError, ProcessLookupError, PermissionError):
            found = os.waitid(os.P_PID, leader, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None:
                return
            if not self._grace or found.si_code in (os.CLD_KILLED, os.CLD_DUMPED):
                os.killpg(leader, signal.SIGKILL)
                return
            self.let_end(leader)

    def let_end(self, leader: int) -> None:
        """The same for an unreaped leader that has ended by itself, of whatever parent."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGTERM)
            self._look_at = time.monotonic()
            self._ending[leader] = self._look_at + self._grace

    def turn(self) -> None:
        """Kill the groups whose time is over."""
        now = time.monotonic()
        if not self._ending or now < self._look_at:
            return
        self._look_at = now + _LOOK
        for leader, until in list(self._ending.items()):
            if _is_empty(leader):
                del self._ending[leader]
            elif now >= until:
                del self._ending[leader]
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(leader, signal.SIGKILL)


def _is_empty(leader: int) -> bool:
    """Whether a group has no living member, or its number is that of a newer group."""
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return True  # not even a zombie is left
    except PermissionError:
        pass
    table = linux.processes().values()
    if not table:  # /proc shows nothing
        return False
    members = [process for process in table if process.group == leader and process.lives]
    return not members or any(process.pid == leader for process in members)
