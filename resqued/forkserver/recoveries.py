"""Recoveries: for each dead worker a short-lived child that puts Redis right. In a fork server."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from resqued import logs, signals, titles
from resqued.channel import Recover
from resqued.config import Config
from resqued.forkserver import children
from resqued.logs import logger
from resqued.scoreboard import Record

if TYPE_CHECKING:
    from resqued.plugins.hooks import Hooks
    from resqued.worker.boot import Death

AT_ONCE: Final = 4
"""How many run at the same time; each is a process and a connection to Redis."""

LIMIT: Final = 300.0
"""Seconds after which one is killed. Whoever asked for it asks again."""

_UNANSWERED: Final = "unanswered"
_VERDICTS: Final = ("nothing", "clean", "requeued", "failed", "retried", _UNANSWERED)
_FIRST_CODE: Final = 100  # exit status of the first verdict; interpreters use lower ones


@dataclass
class _Running:
    task: Recover
    deadline: float  # seconds, monotonic


class Recoveries:
    """Those that are asked for and those that run.

    identity: the arbiter's. recover: what one does, in its child; returns the verdict.
    tell: hears the verdict of each, empty when it did not succeed. abandon: closes in a child what
    is the fork server's.
    """

    def __init__(
        self,
        config: Config,
        hooks: Hooks,
        identity: str,
        recover: Callable[[Config, Hooks, Death], str],
        tell: Callable[[Recover, str], None],
        abandon: Callable[[], None],
    ) -> None:
        self._config = config
        self._hooks = hooks
        self._identity = identity
        self._recover = recover
        self._tell = tell
        self._abandon = abandon
        self._waiting: deque[Recover] = deque()
        self._running: dict[int, _Running] = {}
        self._tries: dict[str, int] = {}  # that came to no end, by owner; not for want of Redis

    def __len__(self) -> int:
        return len(self._waiting) + len(self._running)

    @property
    def pids(self) -> list[int]:
        return list(self._running)

    @property
    def deadline(self) -> float | None:
        """When the next one has taken too long."""
        return min((running.deadline for running in self._running.values()), default=None)

    def ask(self, task: Recover) -> None:
        """Take one on. What the steward asks for not twice, and not beside what the arbiter asks
        for, which knows more of that death."""
        if task.owner and not task.ours:
            running = (running.task for running in self._running.values())
            if task.owner in map(self._owner_of, (*self._waiting, *running)):
                return
        self._waiting.append(task)

    def _owner_of(self, task: Recover) -> str:
        from resqued.worker.owning import owner_of

        return task.owner or str(owner_of(Record.from_plain(task.record), self._identity))

    def turn(self) -> None:
        """Start what waits, as far as there is room; kill what takes too long."""
        while self._waiting and len(self._running) < AT_ONCE:
            self._start(self._waiting.popleft())
        now = time.monotonic()
        for pid, running in self._running.items():
            if running.deadline <= now:
                logger.error(f"recovery={running.task.slot} pid={pid} killed: took {LIMIT:g} s")
                running.deadline = now + LIMIT
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)

    def ended(self, pid: int, status: int) -> None:
        """One has been reaped. Its verdict is its exit status."""
        place = os.waitstatus_to_exitcode(status) - _FIRST_CODE
        verdict = _VERDICTS[place] if 0 <= place < len(_VERDICTS) else ""
        task = self._running.pop(pid).task
        owner = self._owner_of(task)
        if not verdict:
            self._tries[owner] = self._tries.get(owner, 0) + 1
        elif verdict == _UNANSWERED:
            verdict = ""
        else:
            self._tries.pop(owner, None)
        self._tell(task, verdict)

    def _start(self, task: Recover) -> None:
        try:
            pid = children.fork(
                functools.partial(self._live, task),
                abandon=self._abandon,
                orphaned=signal.SIGKILL,  # another one will be asked for, and look first
            )
        except OSError as error:
            logger.error(f"recovery={task.slot} cannot be forked: {error.strerror}")
            self._tell(task, "")
            return
        self._running[pid] = _Running(task, time.monotonic() + LIMIT)

    def _live(self, task: Recover) -> int:
        """Runs in the recovery's child, whom nobody hurries: it is short."""
        from resqued.worker.boot import Death

        for signum in signals.HANDLED - {signal.SIGCHLD}:
            signal.signal(signum, children.ignore)
        record = Record.from_plain(task.record)
        death = Death(
            record=record,
            slot=task.slot,
            status=task.status,
            rusage=task.rusage,
            queues=tuple(task.queues),
            interrupted=task.interrupted,
            reason=task.reason,
            owner=self._owner_of(task),
            tries=self._tries.get(self._owner_of(task), 0),
        )
        logs.set_who(f"recovery={task.slot} gen={death.record.generation} pid={os.getpid()}")
        titles.recovery(death.record.name)
        signals.unblock()
        verdict = self._recover(self._config, self._hooks, death)
        return _FIRST_CODE + _VERDICTS.index(verdict)
