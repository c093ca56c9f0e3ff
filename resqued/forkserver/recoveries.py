"""Recoveries: for each dead worker a short-lived child that recovers its job. In a fork server."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from resqued import logs, signals, titles
from resqued.config import Config
from resqued.death import Death
from resqued.forkserver import children
from resqued.forkserver.notes import Notes
from resqued.forkserver.process_exit import ProcessExit, until_stopped
from resqued.logs import LogEvent
from resqued.messages import Recover

if TYPE_CHECKING:
    from resqued.messages import Inherited
    from resqued.plugins.hooks import Hooks

AT_ONCE: Final = 4
"""How many run at the same time; each is a process and a connection to Redis."""

LIMIT: Final = 300.0
"""Seconds after which a recovery is killed; the arbiter, or the steward, asks for it again."""

_UNANSWERED: Final = "unanswered"
_USERS: Final = ("failed", "retried")
"""Verdicts after which users' code and error trackers may have something to send."""


@dataclass
class _RunningRecovery:
    task: Recover
    deadline: float  # seconds, monotonic
    answer: int  # a pipe that carries the verdict; its process may still have to end
    answered: bool = False
    silent: bool = False  # it has closed its end


class Recoveries:
    """The recoveries that wait and those that run.

    given: what the fork server got from the arbiter. identity: the arbiter's. recover: does a
    recovery in its child, and returns the verdict. tell: called with each verdict, empty after a
    failure. abandon: closes in a child what belongs to the fork server. notes: what the generation
    has logged.
    """

    def __init__(
        self,
        given: Inherited,
        config: Config,
        hooks: Hooks,
        identity: str,
        recover: Callable[[Config, Hooks, Death], str],
        tell: Callable[[Recover, str], None],
        abandon: Callable[[], None],
        notes: Notes,
    ) -> None:
        self._given = given
        self._notes = notes
        self._config = config
        self._hooks = hooks
        self._identity = identity
        self._recover = recover
        self._tell = tell
        self._abandon = abandon
        self._waiting: deque[Recover] = deque()
        self._running: dict[int, _RunningRecovery] = {}
        self._tries: dict[str, int] = {}  # that did not end, by owner; not because of Redis

    def __len__(self) -> int:
        return len(self._waiting) + len(self._running)

    @property
    def pids(self) -> list[int]:
        return list(self._running)

    @property
    def deadline(self) -> float | None:
        """When the next one exceeds its time limit; seconds, monotonic."""
        return min((running.deadline for running in self._running.values()), default=None)

    def ask(self, task: Recover) -> None:
        """Queue a recovery. One that the steward asks for is dropped if the same one is queued or
        runs: the arbiter, which may have asked for that, knows more of the death."""
        if not task.answer:
            running = (each.task for each in self._running.values() if not each.answered)
            if task.death.owner in map(self._owner_of, (*self._waiting, *running)):
                return
        self._waiting.append(task)

    def _owner_of(self, task: Recover) -> str:
        from resqued.broker.owner import owner_of

        return task.death.owner or str(owner_of(task.death.record, self._identity))

    def turn(self) -> None:
        """Start waiting recoveries, up to AT_ONCE; kill those that take too long."""
        while self._waiting and len(self._running) < AT_ONCE:
            self._start(self._waiting.popleft())
        now = time.monotonic()
        for pid, running in self._running.items():
            if running.deadline <= now:
                slot = running.task.death.slot
                logs.error(
                    f"recovery={slot} pid={pid} killed: took {LIMIT:g} s",
                    LogEvent.FORK_SERVER_NOTICE,
                )
                running.deadline = now + LIMIT
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)

    @property
    def links(self) -> list[int]:
        """Descriptors to poll."""
        running = self._running.values()
        return [each.answer for each in running if not each.answered and not each.silent]

    def listen(self) -> None:
        """Pass on the verdicts that have arrived; their processes may not have ended yet."""
        for running in self._running.values():
            if not running.answered:
                self._hear(running)

    def _hear(self, running: _RunningRecovery) -> None:
        with contextlib.suppress(BlockingIOError):
            verdict = os.read(running.answer, 100).decode()
            running.answered, running.silent = bool(verdict), not verdict
            if verdict:
                self._pass_on(running.task, verdict)

    def _pass_on(self, task: Recover, verdict: str) -> None:
        owner = self._owner_of(task)
        if not verdict:
            self._tries[owner] = self._tries.get(owner, 0) + 1
        elif verdict == _UNANSWERED:
            verdict = ""
        else:
            self._tries.pop(owner, None)
        self._tell(task, verdict)

    def ended(self, pid: int) -> None:
        """A recovery's process has been reaped."""
        running = self._running.pop(pid)
        if not running.answered:
            self._hear(running)
        os.close(running.answer)
        if not running.answered:
            self._pass_on(running.task, "")

    def abandon(self) -> None:
        """Runs in a child: close the fork server's ends."""
        for running in self._running.values():
            os.close(running.answer)

    def _start(self, task: Recover) -> None:
        answer = verdict = -1
        try:
            answer, verdict = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            pid = children.fork(
                functools.partial(self._live, task, answer, verdict),
                abandon=self._abandon,
                orphaned=signal.SIGKILL,  # another one will be asked for
            )
        except OSError as error:
            logs.error(
                f"recovery={task.death.slot} cannot be forked: {error.strerror}",
                LogEvent.FORK_SERVER_NOTICE,
            )
            if answer >= 0:
                os.close(answer)
            self._tell(task, "")
            return
        finally:
            if verdict >= 0:
                os.close(verdict)
        self._running[pid] = _RunningRecovery(task, time.monotonic() + LIMIT, answer)

    def _live(self, task: Recover, answer: int, verdict_fd: int) -> int:
        """Runs in the recovery's child, which is short-lived and ignores signals."""
        os.close(answer)
        for signum in signals.HANDLED - {signal.SIGCHLD}:
            signal.signal(signum, children.ignore)
        owner = self._owner_of(task)
        death = replace(task.death, owner=owner, tries=self._tries.get(owner, 0))
        logs.set_who(f"recovery={task.death.slot} gen={death.record.generation} pid={os.getpid()}")
        titles.recovery(death.record.name)
        signals.unblock()
        verdict = self._recover(self._config, self._hooks, death)
        os.write(verdict_fd, verdict.encode())
        os.close(verdict_fd)
        if verdict in _USERS:
            ProcessExit(
                self._config.exit_timeout,
                hurried=until_stopped(self._given.scoreboard),
                notes=self._notes,
                stacks=self._given.dumps,
            ).leave(0)
        return 0
