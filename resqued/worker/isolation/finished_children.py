"""Collect children whose job has ended: each runs its exit while the worker goes on."""

from __future__ import annotations

import time
from math import inf
from typing import TYPE_CHECKING, Any, Final

from resqued import logs
from resqued.groups import Groups
from resqued.logs import LogEvent
from resqued.worker.isolation.child import JobChild

if TYPE_CHECKING:
    from resqued.worker.slot import WorkerSlot

_AT_ONCE: Final = 0.02  # seconds that an idle worker waits for the last child at once
_NEXT_LOOK: Final = 0.1
_SLACK: Final = 2.0  # seconds beyond --exit-timeout, within which a child ends by itself
_HURRY: Final = 1.0  # the same when the worker stops with `now`


class FinishedChildren:
    """Those of one worker; at most one child is ending. Used in the worker."""

    def __init__(self, slot: WorkerSlot) -> None:
        self._slot = slot
        self._groups = Groups()
        self.ending: JobChild | None = None

    def begin(self, child: JobChild, word: dict[str, Any], *, leaves: object) -> None:
        """Tell a child that its outcome is written. Waits for the end of the child before it.
        leaves: the child exits without waiting for that, and has started no process."""
        seconds = self._slot.config.exit_timeout
        child.alone = bool(leaves)
        if not leaves:
            child.send({**word, "exit": seconds})
        child.until = time.monotonic() + seconds + _SLACK
        before, self.ending = self.ending, child
        if before is not None:
            self._collect(before, max(0.0, before.until - time.monotonic()))

    def _collect(self, child: JobChild, seconds: float) -> None:
        """Wait for its end, at most so long; then end its group."""
        if not child.wait(seconds):
            logs.warning(
                f"child pid={child.pid} did not end in time; killed", LogEvent.WORKER_NOTICE
            )
            child.kill()
            child.wait(_SLACK)
            child.alone = False
        if child.template is None:
            self._groups.end(child.pid)
        elif not child.alone:
            self._groups.let_end(child.pid)
        child.discard()

    def tend(self) -> None:
        """Collect what has ended."""
        ending = self.ending
        if ending is not None and (ending.has_ended or time.monotonic() >= ending.until):
            self.ending = None
            self._collect(ending, 0)
        self._groups.turn()

    @property
    def next_check(self) -> float:
        """Seconds until the next check, for what no descriptor reports."""
        return _NEXT_LOOK if self.ending is not None or self._groups else inf

    def rest(self) -> float:
        """There is no job. Seconds after which to call again."""
        if self.ending is not None:
            self.ending.wait(_AT_ONCE)
        self.tend()
        return self.next_check

    def close(self) -> None:
        """The worker exits: wait until all have ended."""
        ending, self.ending = self.ending, None
        if ending is not None:
            left = ending.until - time.monotonic()
            if self._slot.signals.now_since:
                left = min(left, _HURRY)
            self._collect(ending, max(0.0, left))
        while self._groups:
            self._groups.turn()
            self._slot.signals.wait(0.01)
