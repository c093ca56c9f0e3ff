"""Process groups whose worker has ended: what is left in them ends too."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Final

from resqued import linux

GRACE: Final = 1.0
"""Seconds between SIGTERM and SIGKILL, after a worker that has left in good order."""

_LOOK: Final = 0.05  # seconds between two looks whether a group is empty


class Groups:
    """Those that are being ended. Runs in the fork server, or the arbiter: whoever reaps workers.

    A group keeps its number for as long as it has a member; and no pid is given twice as long.
    grace: seconds between SIGTERM and SIGKILL; 0: SIGKILL at once.
    """

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
        """If this child of ours has ended, end what it left in its group.

        Call it before it is reaped, while the kernel still keeps its pid, and so its group's.
        Who was killed, or crashed, takes the rest with him at once.
        """
        with contextlib.suppress(ChildProcessError, ProcessLookupError, PermissionError):
            found = os.waitid(os.P_PID, leader, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None:
                return
            if not self._grace or found.si_code in (os.CLD_KILLED, os.CLD_DUMPED):
                os.killpg(leader, signal.SIGKILL)
                return
            self.let_end(leader)

    def let_end(self, leader: int) -> None:
        """The same for one that has ended by itself, and is not reaped: whose child it is does not
        matter."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGTERM)
            self._look_at = time.monotonic()
            self._ending[leader] = self._look_at + self._grace

    def turn(self) -> None:
        """Kill what has had its time."""
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
    """Nobody lives in it; or its number is another's, whose leader lives."""
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return True  # no zombie either
    except PermissionError:
        pass
    table = linux.processes().values()
    if not table:  # nothing is to be seen
        return False
    members = [process for process in table if process.group == leader and process.lives]
    return not members or any(process.pid == leader for process in members)
