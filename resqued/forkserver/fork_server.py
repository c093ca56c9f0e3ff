"""The loop of a fork server that is ready: forks, signals and reaps when told to.

Single-threaded. What it knows of its workers is their pids; everything else is decided in the
arbiter, and said over the channel.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, assert_never

from resqued import descendants, linux, logs, messages, originals, signals, titles
from resqued.arbiter.spawn import Inherited
from resqued.channel import Channel, Closed
from resqued.config import Config
from resqued.death import Death
from resqued.forkserver import children, worker_start
from resqued.forkserver.process_exit import CRASH, Notes
from resqued.forkserver.recoveries import Recoveries
from resqued.forkserver.stewards import Stewarding, Stewards
from resqued.forkserver.worker_start import Run
from resqued.groups import Groups
from resqued.logs import logger
from resqued.mailbox import Mailbox
from resqued.messages import ForkWorker, Message, Recover, SignalWorker, WorkerNotForked
from resqued.plugins.hooks import LIMIT
from resqued.plugins.registry import Plugins
from resqued.printable import printable
from resqued.scoreboard import Phase, Record, Scoreboard, Stop
from resqued.signal_table import TABLE, InForkServer, row_of

if TYPE_CHECKING:
    from resqued.plugins.hooks import Hooks

WATCHED: Final = frozenset(
    row.signum for row in TABLE if row.fork_server is not InForkServer.DEFAULT
)

STAY: Final = 2.0
"""Seconds that a fork server which leaves, and not because the arbiter said so, stays after a
worker has died with a job: it is about to be asked to recover that."""

TOGETHER: Final = 32
"""Workers that are forked, at most, before the arbiter is told of them."""

Recovery = Callable[[Config, "Hooks", Death], str]


@dataclass
class Child:
    """A worker that is forked and not reaped yet."""

    pid: int
    task: ForkWorker
    drained: bool = False  # told to drain by this process, once


class ForkServer:
    """The state of the loop. `serve` is its whole life."""

    def __init__(
        self,
        given: Inherited,
        channel: Channel,
        config: Config,
        plugins: Plugins,
        *,
        identity: str,
        run: Run,
        recover: Recovery,
        steward: Stewarding,
        notes: Notes,
    ) -> None:
        """identity: the arbiter's. Raises ValueError when the scoreboard is of another version."""
        self.given = given
        self.channel = channel
        self.config = config
        self.run_worker = run
        self.scoreboard = Scoreboard(given.scoreboard)
        self.hooks = plugins.hooks(LIMIT)
        self.childs_hooks = plugins.hooks()  # without a limit: SIGALRM is RQ's there
        self.mailbox = Mailbox(WATCHED)
        self.notes = notes
        self.children: dict[int, Child] = {}
        self.recoveries = Recoveries(
            given,
            config,
            self.childs_hooks,
            identity,
            recover,
            self.tell_verdict,
            self.abandon,
            self.notes,
        )
        self.stewards = Stewards(
            given, config, self.scoreboard, identity, steward, abandon=self.abandon
        )
        self.identity = identity
        self.strangers = children.Strangers()
        self.groups = Groups()
        self.look_again = False
        self.leaving = self.arbiter_gone = False
        self.stay_until = 0.0

    def serve(self) -> None:
        """Serve until told to leave, or until the arbiter is gone, and the last child has ended."""
        with self.mailbox:
            linux.set_parent_death_signal(signal.SIGQUIT)
            if os.getppid() != self.given.arbiter:
                self.lose_arbiter()
            self.channel.send(messages.Ready())
            while self.children or self.recoveries or self.groups or self.is_needed():
                arrived = self.wait()
                self.reap()
                self.listen()
                self.listen_to_stewards()
                self.recoveries.listen()
                self.recoveries.turn()
                self.groups.turn()
                for signum in sorted(arrived):
                    self.signalled(signum)

    def signalled(self, signum: int) -> None:
        match row_of(signum).fork_server:
            case InForkServer.DRAIN:
                self.drain(f"{signals.name_of(signum)} received")
            case InForkServer.REOPEN:
                self.reopen()
            case InForkServer.WAKE | InForkServer.DEFAULT:
                pass
            case effect:
                assert_never(effect)

    def is_needed(self) -> bool:
        """Though there is nobody to wait for."""
        return not self.leaving or self.stay_until > time.monotonic()

    def wait(self) -> frozenset[int]:
        """Block until a signal, a packet or a deadline; returns the signals that arrived."""
        for what in self.mailbox.take_back():
            logger.warning(f"a plugin has {what}; undone")
        poll = originals.poll()
        poll.register(self.mailbox, select.POLLIN)
        if not self.arbiter_gone:
            sent = self.channel.flush()
            poll.register(self.channel, select.POLLIN | (0 if sent else select.POLLOUT))
        for link in self.stewards.links:
            poll.register(link, select.POLLIN)
        for answer in self.recoveries.links:
            poll.register(answer, select.POLLIN)
        poll.poll(self.patience())
        return frozenset(self.mailbox.collect())

    def patience(self) -> float | None:
        """Milliseconds until there is something to do unasked."""
        now = time.monotonic()
        again = now + 1.0 if self.look_again else None
        stay = self.stay_until if self.leaving and self.stay_until > now else None
        due = [at for at in (self.recoveries.deadline, self.groups.deadline, again, stay) if at]
        return max(0.0, min(due) - now) * 1000.0 if due else None

    def listen(self) -> None:
        """Do what the arbiter asks, in its order."""
        wanted: list[ForkWorker] = []
        while not self.arbiter_gone:
            try:
                message = self.channel.receive()
            except Closed:
                self.lose_arbiter()
                return
            except (ValueError, KeyError, TypeError) as error:
                logger.error(f"packet ignored: {error}")
                continue
            if isinstance(message, ForkWorker):
                wanted.append(message)
                if len(wanted) < TOGETHER:
                    continue
            self.fork_all(wanted)
            wanted = []
            if message is None:
                return
            if not isinstance(message, ForkWorker):
                self.obey(message)

    def obey(self, message: Message) -> None:
        match message:
            case SignalWorker():
                self.signal(message)
            case Recover():
                self.recoveries.ask(message)
            case messages.ForkSteward(serial):
                self.channel.send(self.stewards.fork(serial))
            case messages.SignalSteward(serial, signum):
                self.stewards.signal(serial, signum)
            case messages.Reopen():
                self.reopen()
            case messages.Retire():
                self.leaving, self.stay_until = True, 0.0
                titles.fork_server(self.given.generation, note="draining")
            case _:
                name = type(message).__name__
                logger.error(f"packet ignored: a fork server does not do '{name}'")

    def listen_to_stewards(self) -> None:
        """Pass on what is for the arbiter; recover what is left of the workers of others."""
        for message in self.stewards.heard():
            if isinstance(message, Recover):
                self.recoveries.ask(message)
            elif not self.arbiter_gone:
                self.channel.send(message)

    def lose_arbiter(self) -> None:
        self.arbiter_gone, self.stay_until = True, 0.0
        self.drain("the arbiter is gone")

    def drain(self, why: str) -> None:
        """Tell every worker, once, to finish its job and leave; then leave ourselves."""
        others = [child for child in self.children.values() if not child.drained]
        if self.leaving and not others:
            return
        logger.warning(f"leaving: {why}; {len(self.children)} workers finish their jobs first")
        self.leaving = True
        titles.fork_server(self.given.generation, note="draining")
        for child in others:
            child.drained = True
            self.kill(child.pid, signal.SIGQUIT)

    def reopen(self) -> None:
        """Follow a rotated log, and have every worker follow."""
        logs.reopen()
        for pid in self.children:
            self.kill(pid, signal.SIGUSR1)
        self.stewards.reopen()
        self.hooks.tell("reopen_logs", role="fork server")

    def fork_all(self, tasks: list[ForkWorker]) -> None:
        """Fork workers, unless a plugin puts one off or the system has no process left.

        One right after the other: each page that is written to between two forks is copied once
        more. A plugin is called before each fork, so with it they come one by one.
        """
        possible = self.possible(tasks)
        if self.hooks.has("before_fork"):
            for task in possible:
                if not self.is_vetoed(task):
                    self.fork_prepared([task])
        else:
            self.fork_prepared(possible)

    def possible(self, tasks: list[ForkWorker]) -> list[ForkWorker]:
        """Those that can be now; of the others the arbiter is told."""
        found = []
        taken = {child.task.slot for child in self.children.values()}
        for task in tasks:
            if code := errno.ESHUTDOWN if self.leaving else errno.EBUSY * (task.slot in taken):
                self.channel.send(_not_forked(task, code))
            else:
                taken.add(task.slot)
                found.append(task)
        return found

    def is_vetoed(self, task: ForkWorker) -> bool:
        """If so, the arbiter is told."""
        number = self.given.generation
        veto = self.hooks.before_fork(worker=worker_start.snapshot(task, number, self.config))
        if veto is not None:
            answer = messages.Vetoed(task.slot, task.serial, veto.reason, veto.retry_after)
            self.channel.send(answer)
        return veto is not None

    def fork_prepared(self, tasks: list[ForkWorker]) -> None:
        for task in tasks:
            self.scoreboard.write(task.slot, Record())
        lives = [functools.partial(self.live, task) for task in tasks]
        forked = [self.fork(live) for live in lives]
        for task, pid in zip(tasks, forked, strict=True):
            if pid > 0:
                self.children[pid] = Child(pid, task)
                self.channel.send(messages.WorkerForked(task.slot, task.serial, pid))
            else:
                self.channel.send(_not_forked(task, -pid))

    def fork(self, live: Callable[[], int]) -> int:
        """The pid, or the error's number below zero."""
        try:
            return children.fork(live, abandon=self.abandon, orphaned=signal.SIGQUIT)
        except OSError as error:
            return -(error.errno or errno.EAGAIN)

    def live(self, task: ForkWorker) -> int:
        """Runs in the worker."""
        return worker_start.live(
            task,
            given=self.given,
            board=self.scoreboard,
            config=self.config,
            hooks=self.childs_hooks,
            identity=self.identity,
            run=self.run_worker,
            notes=self.notes,
        )

    def abandon(self) -> None:
        """Runs in a child: close what is ours alone, so that the arbiter sees when we end."""
        self.mailbox.__exit__()
        self.channel.close()
        self.stewards.abandon()
        self.recoveries.abandon()

    def signal(self, request: SignalWorker) -> None:
        """Signal a worker that is not reaped yet: only then its pid is surely the one meant."""
        child = self.children.get(request.pid)
        if child is None or child.task.slot != request.slot:
            logger.debug(f"worker={request.slot} pid={request.pid} not signalled: it is gone")
            return
        if request.group:
            descendants.kill_worker(child.pid, self.scoreboard.read(child.task.slot))
        else:
            self.kill(child.pid, request.signum)

    def kill(self, pid: int, signum: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # a job may change its user
            os.kill(pid, signum)

    def reap(self) -> None:
        for pid, status, usage in children.reap(self.children, self.groups):
            self.bury(self.children.pop(pid), status, usage)
        for pid, _, _ in children.reap(self.recoveries.pids, self.groups):
            self.recoveries.ended(pid)
        for pid, status, _ in children.reap(self.stewards.pids, self.groups):
            message = self.stewards.ended(pid, status)
            if not self.arbiter_gone:
                self.channel.send(message)
        known = {*self.children, *self.recoveries.pids, *self.stewards.pids}
        self.look_again = self.strangers.reap(known)

    def bury(self, child: Child, status: int, usage: dict[str, float]) -> None:
        """Tell of a worker's end, with its record as it left it, before the slot is used again."""
        task = child.task
        record = self.scoreboard.read(task.slot)
        if record.pid != child.pid:  # it died before it could write one
            record = Record(name=task.name, serial=task.serial, generation=self.given.generation)
        self.note_crash(child, record, status)
        death = Death(task.slot, status, usage, record, tuple(task.queues))
        if not self.arbiter_gone:
            if record.phase.holds_job:
                self.stay_until = time.monotonic() + STAY
            self.channel.send(messages.WorkerExited(task.serial, child.pid, death))
        elif record.phase not in (Phase.EMPTY, Phase.BOOTING, Phase.LEFT):
            interrupted = self.scoreboard.stop_word(task.slot) is Stop.NOW
            reason = "it ended after its arbiter"
            self.recoveries.ask(Recover(replace(death, interrupted=interrupted, reason=reason)))

    def note_crash(self, child: Child, record: Record, status: int) -> None:
        """Name, once, an end in what it did after its work was done: no affair of its slot."""
        done = record.phase is Phase.LEFT and record.reason.deliberate
        if not done or status in (0, signal.SIGKILL):  # killed by us or for want of memory
            return
        how = signals.name_of(os.WTERMSIG(status)) if os.WIFSIGNALED(status) else ""
        how = f"by {how}" if how else f"with exit status {os.waitstatus_to_exitcode(status)}"
        if self.notes.first(CRASH):
            logger.warning(
                f"worker={child.task.slot} pid={child.pid} ended {how} in its exit, after its work:"
                " in an atexit function, or a thread that was still running;"
                " this is told once a generation"
            )

    def tell_verdict(self, task: Recover, verdict: str) -> None:
        """To the arbiter, if it has asked."""
        death = task.death
        if not task.answer:
            return
        if not self.arbiter_gone:
            self.channel.send(messages.Recovered(death.slot, death.name, verdict))
        elif not verdict:
            job_id = printable(death.record.job_id)
            logger.error(f"job={job_id} not recovered; the next start will do it")


def _not_forked(task: ForkWorker, code: int) -> WorkerNotForked:
    leaving = code == errno.ESHUTDOWN
    return WorkerNotForked(task.slot, task.serial, os.strerror(code), leaving)
