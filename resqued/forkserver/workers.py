"""The workers of a fork server: forked, signalled, and reaped with their last record."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resqued import descendants, logs, messages, signals
from resqued.config import Config
from resqued.death import Death
from resqued.forkserver import children, worker_start
from resqued.forkserver.notes import CRASH, Notes
from resqued.forkserver.worker_start import Run
from resqued.logs import LogEvent
from resqued.messages import ForkWorker, FromForkServer, Inherited, SignalWorker, WorkerNotForked
from resqued.oom_kills import OomKills
from resqued.plugins.errors import place
from resqued.scoreboard import Phase, Record, Scoreboard
from resqued.signal_table import DRAIN, REOPEN

if TYPE_CHECKING:
    from resqued.plugins.hooks import Hooks


@dataclass
class Child:
    """A worker that is forked and not reaped yet."""

    pid: int
    task: ForkWorker
    drained: bool = False  # told to drain by this process, once


class Workers:
    """The workers that are forked and not reaped, by pid.

    hooks: with a time limit, for the fork server; childs_hooks: without one, for workers, where RQ
    uses SIGALRM. identity: the arbiter's. send: to the arbiter. abandon: closes in a child what
    belongs to the fork server.
    """

    def __init__(
        self,
        given: Inherited,
        config: Config,
        board: Scoreboard,
        *,
        hooks: Hooks,
        childs_hooks: Hooks,
        identity: str,
        run: Run,
        notes: Notes,
        send: Callable[[FromForkServer], None],
        abandon: Callable[[], None],
    ) -> None:
        self._given = given
        self._config = config
        self._board = board
        self._hooks = hooks
        self._childs_hooks = childs_hooks
        self._identity = identity
        self._run = run
        self._notes = notes
        self._send = send
        self._abandon = abandon
        self._children: dict[int, Child] = {}
        self._oom_kills = OomKills()

    def __len__(self) -> int:
        return len(self._children)

    @property
    def pids(self) -> list[int]:
        return list(self._children)

    @property
    def undrained(self) -> list[Child]:
        """Workers that this process has not told to drain."""
        return [child for child in self._children.values() if not child.drained]

    def fork(self, tasks: list[ForkWorker], *, leaving: bool) -> None:
        """Fork workers, unless a plugin puts one off or the system has no process left.

        They are forked without a pause, since each page that is written to between two forks is
        copied once more. With a plugin that is called before each fork they are forked one by one.
        """
        possible = self._possible(tasks, leaving)
        if self._hooks.has("before_fork"):
            for task in possible:
                if not self._is_vetoed(task):
                    self._fork_all([task])
        else:
            self._fork_all(possible)

    def drain(self) -> None:
        """Tell every worker, once, to finish its job and leave."""
        for child in self.undrained:
            child.drained = True
            _kill(child.pid, DRAIN)

    def reopen(self) -> None:
        """Have every worker reopen its log files."""
        for pid in self._children:
            _kill(pid, REOPEN)

    def signal(self, request: SignalWorker) -> None:
        """Signal a worker that is not reaped yet, since only then the pid is certainly its own."""
        child = self._children.get(request.pid)
        if child is None or child.task.slot != request.slot:
            logs.debug(f"worker={request.slot} pid={request.pid} not signalled: it is gone")
        elif request.group:
            descendants.kill_worker(child.pid, self._board.read(child.task.slot))
        else:
            _kill(child.pid, request.signum)

    def reaped(self, pid: int, status: int, usage: dict[str, float]) -> messages.WorkerExited:
        """The message of a worker's end, with its last record, before the slot is used again."""
        child = self._children.pop(pid)
        task = child.task
        record = self._board.read(task.slot)
        if record.pid != pid:  # it died before it could write one
            record = Record(name=task.name, serial=task.serial, generation=self._given.generation)
        self._note_crash(child, record, status)
        oom = self._oom_kills.is_cause(status)
        death = Death(task.slot, status, usage, record, tuple(task.queues), out_of_memory=oom)
        return messages.WorkerExited(task.serial, pid, death)

    def _possible(self, tasks: list[ForkWorker], leaving: bool) -> list[ForkWorker]:
        """The tasks that can be done now; the others are answered."""
        found = []
        taken = {child.task.slot for child in self._children.values()}
        for task in tasks:
            if code := errno.ESHUTDOWN if leaving else errno.EBUSY * (task.slot in taken):
                self._send(_not_forked(task, code))
            else:
                taken.add(task.slot)
                found.append(task)
        return found

    def _is_vetoed(self, task: ForkWorker) -> bool:
        """Call `before_fork`; send a veto to the arbiter."""
        number = self._given.generation
        veto = self._hooks.before_fork(worker=worker_start.snapshot(task, number, self._config))
        if veto is not None:
            if not veto.is_valid and self._notes.first(f"retry_after {veto.retry_after!r}"):
                logs.error(
                    f"hook before_fork: VetoFork(retry_after={veto.retry_after!r}) is no number of"
                    f" seconds ({place(veto)}); {veto.seconds:g} s is taken instead",
                    LogEvent.FORK_SERVER_NOTICE,
                )
            self._send(messages.Vetoed(task.slot, task.serial, veto.reason, veto.seconds))
        return veto is not None

    def _fork_all(self, tasks: list[ForkWorker]) -> None:
        if tasks:
            self._oom_kills.look()
        for task in tasks:
            self._board.write(task.slot, Record())
        lives = [functools.partial(self._live, task) for task in tasks]
        forked = [self._fork(live) for live in lives]
        for task, pid in zip(tasks, forked, strict=True):
            if pid > 0:
                self._children[pid] = Child(pid, task)
                self._send(messages.WorkerForked(task.slot, task.serial, pid))
            else:
                self._send(_not_forked(task, -pid))

    def _fork(self, live: Callable[[], int]) -> int:
        """The pid, or the error's number below zero."""
        try:
            return children.fork(live, abandon=self._abandon, orphaned=DRAIN)
        except OSError as error:
            return -(error.errno or errno.EAGAIN)

    def _live(self, task: ForkWorker) -> int:
        """Runs in the worker."""
        return worker_start.live(
            task,
            given=self._given,
            board=self._board,
            config=self._config,
            hooks=self._childs_hooks,
            identity=self._identity,
            run=self._run,
            notes=self._notes,
        )

    def _note_crash(self, child: Child, record: Record, status: int) -> None:
        """Log, once, that a worker crashed after its work was done: no failure of its slot."""
        done = record.phase is Phase.LEFT and record.reason.deliberate
        if not done or status in (0, signal.SIGKILL):  # killed by resqued or for want of memory
            return
        how = signals.name_of(os.WTERMSIG(status)) if os.WIFSIGNALED(status) else ""
        how = f"by {how}" if how else f"with exit status {os.waitstatus_to_exitcode(status)}"
        if self._notes.first(CRASH):
            logs.warning(
                f"worker={child.task.slot} pid={child.pid} ended {how} in its exit, after its work:"
                " in an atexit function, or a thread that was still running;"
                " this is logged once a generation",
                LogEvent.FORK_SERVER_NOTICE,
            )


def _kill(pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # a job may change its user
        os.kill(pid, signum)


def _not_forked(task: ForkWorker, code: int) -> WorkerNotForked:
    leaving = code == errno.ESHUTDOWN
    return WorkerNotForked(task.slot, task.serial, os.strerror(code), leaving)
