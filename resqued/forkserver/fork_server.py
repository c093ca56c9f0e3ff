"""The loop of a fork server that is ready: forks, signals and reaps on request.

Single-threaded. The arbiter decides about its workers and sends requests over the channel.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, assert_never

from resqued import linux, logs, messages, originals, signals, titles
from resqued.channel import Channel, Closed
from resqued.config import Config
from resqued.death import Death
from resqued.duties.definition import DutyDefinition
from resqued.forkserver import children
from resqued.forkserver.containment import ForkServerContainment
from resqued.forkserver.duties import DutiesProcess, DutiesRun
from resqued.forkserver.notes import Notes
from resqued.forkserver.recoveries import Recoveries
from resqued.forkserver.stewards import StewardRun, Stewards
from resqued.forkserver.worker_start import Run
from resqued.forkserver.workers import Workers
from resqued.groups import Groups
from resqued.logs import LogEvent
from resqued.mailbox import Mailbox
from resqued.messages import Calling, ForkWorker, FromForkServer, Inherited, Message, Recover
from resqued.plugins.hooks import LIMIT
from resqued.plugins.registry import Plugins
from resqued.printable import printable
from resqued.scoreboard import Phase, Scoreboard, Stop
from resqued.signal_table import DRAIN, TABLE, InForkServer, row_of

if TYPE_CHECKING:
    from resqued.plugins.hooks import Hooks

WATCHED: Final = frozenset(
    row.signum for row in TABLE if row.fork_server is not InForkServer.DEFAULT
)

STAY: Final = 2.0
"""Seconds for which a fork server that drains, but not on the arbiter's request, stays after a
worker has died with a job: the arbiter will ask it to recover that job."""

TOGETHER: Final = 32
"""Workers, at most, that are forked before the arbiter gets the answers."""

Recovery = Callable[[Config, "Hooks", Death], str]


class ForkServer:
    """The state of the loop; `serve` runs it."""

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
        steward: StewardRun,
        duties: tuple[DutyDefinition, ...],
        do_duties: DutiesRun,
        notes: Notes,
    ) -> None:
        """identity: the arbiter's. Raises ValueError when the scoreboard is of another version."""
        self._given = given
        self._channel = channel
        self._board = Scoreboard(given.scoreboard)
        self._hooks = plugins.hooks(LIMIT, on_call=lambda what: channel.send(Calling(what)))
        self._mailbox = Mailbox(WATCHED)
        self._containment = ForkServerContainment(
            self._mailbox, self._board, given, lambda: self._leaving
        )
        childs_hooks = plugins.hooks()  # without a limit: SIGALRM is RQ's there
        self._workers = Workers(
            given,
            config,
            self._board,
            hooks=self._hooks,
            childs_hooks=childs_hooks,
            identity=identity,
            run=run,
            notes=notes,
            send=channel.send,
            abandon=self._abandon,
        )
        self._recoveries = Recoveries(
            given,
            config,
            childs_hooks,
            identity,
            recover,
            self._report_verdict,
            self._abandon,
            notes,
        )
        self._stewards = Stewards(
            given, config, self._board, identity, steward, abandon=self._abandon
        )
        self._duties = DutiesProcess(
            given,
            config,
            self._board,
            childs_hooks,
            identity,
            duties,
            do_duties,
            self._abandon,
            notes,
        )
        self._strangers = children.Strangers()
        self._groups = Groups()
        self._look_again = False
        self._leaving = self._arbiter_gone = False
        self._stay_until = 0.0

    def serve(self) -> None:
        """Serve until told to leave, or until the arbiter is gone, and the last child has ended."""
        with self._mailbox:
            self._containment.install()
            linux.set_parent_death_signal(DRAIN)
            if os.getppid() != self._given.arbiter:
                self._lose_arbiter()
            self._channel.send(messages.Ready())
            while self._has_children() or self._is_needed():
                arrived = self._wait()
                self._reap()
                self._listen()
                self._listen_to_stewards()
                self._recoveries.listen()
                self._recoveries.turn()
                self._groups.turn()
                self._duties.turn()
                for signum in sorted(arrived):
                    self._signalled(signum)

    def _has_children(self) -> bool:
        return bool(self._workers or self._recoveries or self._groups or self._duties)

    def _is_needed(self) -> bool:
        """Whether to stay although there is no child."""
        return not self._leaving or self._stay_until > time.monotonic()

    def _signalled(self, signum: int) -> None:
        match row_of(signum).fork_server:
            case InForkServer.DRAIN:
                self._drain(f"{signals.name_of(signum)} received")
            case InForkServer.REOPEN:
                self._reopen()
            case InForkServer.WAKE | InForkServer.DEFAULT:
                pass
            case effect:
                assert_never(effect)

    def _wait(self) -> frozenset[int]:
        """Block until a signal, a packet or a deadline; returns the signals that arrived."""
        self._containment.restore("a plugin")
        poll = originals.poll()
        poll.register(self._mailbox, select.POLLIN)
        if not self._arbiter_gone:
            sent = self._channel.flush()
            poll.register(self._channel, select.POLLIN | (0 if sent else select.POLLOUT))
        for link in self._stewards.links:
            poll.register(link, select.POLLIN)
        for answer in self._recoveries.links:
            poll.register(answer, select.POLLIN)
        poll.poll(self._timeout())
        return frozenset(self._mailbox.collect())

    def _timeout(self) -> float | None:
        """Milliseconds until there is something to do without an event."""
        if self._mailbox.has_read_ahead:
            return 0.0
        now = time.monotonic()
        again = now + 1.0 if self._look_again else None
        stay = self._stay_until if self._leaving and self._stay_until > now else None
        children = (self._recoveries.deadline, self._groups.deadline, self._duties.deadline)
        due = [at for at in (*children, again, stay) if at is not None]
        return max(0.0, min(due) - now) * 1000.0 if due else None

    # Messages.

    def _listen(self) -> None:
        """Serve the arbiter's requests, in order."""
        wanted: list[ForkWorker] = []
        while not self._arbiter_gone:
            try:
                message = self._channel.receive()
            except Closed:
                self._lose_arbiter()
                return
            except (ValueError, KeyError, TypeError) as error:
                logs.error(f"packet ignored: {error}", LogEvent.FORK_SERVER_NOTICE)
                continue
            if isinstance(message, ForkWorker):
                wanted.append(message)
                if len(wanted) < TOGETHER:
                    continue
            self._workers.fork(wanted, leaving=self._leaving)
            wanted = []
            if message is None:
                return
            if not isinstance(message, ForkWorker):
                self._obey(message)

    def _obey(self, message: Message) -> None:
        match message:
            case messages.SignalWorker():
                self._workers.signal(message)
            case messages.Recover():
                self._recoveries.ask(message)
            case messages.ForkSteward(serial):
                self._channel.send(self._stewards.fork(serial))
            case messages.SignalSteward(serial, signum):
                self._stewards.signal(serial, signum)
            case messages.RunDuties(wanted):
                self._duties.want(wanted and not self._leaving)
            case messages.Reopen():
                self._reopen()
            case messages.Retire():
                self._leaving, self._stay_until = True, 0.0
                self._duties.want(False)
                titles.fork_server(self._given.generation, note="draining")
            case _:
                name = type(message).__name__
                logs.error(
                    f"packet ignored: a fork server does not do '{name}'",
                    LogEvent.FORK_SERVER_NOTICE,
                )

    def _listen_to_stewards(self) -> None:
        """Pass messages of stewards to the arbiter; start recoveries that they ask for."""
        for message in self._stewards.heard():
            if isinstance(message, Recover):
                self._recoveries.ask(message)
            elif messages.is_from_fork_server(message):
                self._report(message)

    def _report(self, message: FromForkServer) -> None:
        if not self._arbiter_gone:
            self._channel.send(message)

    def _lose_arbiter(self) -> None:
        self._arbiter_gone, self._stay_until = True, 0.0
        self._drain("the arbiter is gone")

    def _drain(self, why: str) -> None:
        """Tell every worker, once, to finish its job and leave; then leave."""
        self._duties.want(False)
        if self._leaving and not self._workers.undrained:
            return
        logs.warning(
            f"leaving: {why}; {len(self._workers)} workers finish their jobs first",
            LogEvent.FORK_SERVER_NOTICE,
        )
        self._leaving = True
        titles.fork_server(self._given.generation, note="draining")
        self._workers.drain()

    def _reopen(self) -> None:
        """Reopen the log files, here and in every child."""
        logs.reopen()
        self._workers.reopen()
        self._stewards.reopen()
        self._duties.reopen()
        self._hooks.tell("reopen_logs", role="fork server")

    # Its children.

    def _abandon(self) -> None:
        """Runs in a child: close what belongs to the fork server alone, so that the arbiter sees
        the fork server's end."""
        self._mailbox.__exit__()
        self._channel.close()
        self._stewards.abandon()
        self._recoveries.abandon()

    def _reap(self) -> None:
        for pid, status, usage in children.reap(self._workers.pids, self._groups):
            self._exited(self._workers.reaped(pid, status, usage))
        for pid, _, _ in children.reap(self._recoveries.pids, self._groups):
            self._recoveries.ended(pid)
        for pid, status, _ in children.reap(self._stewards.pids, self._groups):
            self._report(self._stewards.ended(pid, status))
        for _, status, _ in children.reap(self._duties.pids, self._groups):
            self._duties.ended(status)
        known = {*self._workers.pids, *self._recoveries.pids, *self._stewards.pids}
        known.update(self._duties.pids)
        self._look_again = self._strangers.reap(known)

    def _exited(self, exited: messages.WorkerExited) -> None:
        """Report a worker's end to the arbiter; without an arbiter, start the recovery."""
        death, phase = exited.death, exited.death.record.phase
        if not self._arbiter_gone:
            if phase.holds_job:
                self._stay_until = time.monotonic() + STAY
            self._channel.send(exited)
        elif phase not in (Phase.EMPTY, Phase.BOOTING, Phase.LEFT):
            interrupted = self._board.stop_word(death.slot) is Stop.NOW
            reason = "it ended after its arbiter"
            self._recoveries.ask(Recover(replace(death, interrupted=interrupted, reason=reason)))

    def _report_verdict(self, task: Recover, verdict: str) -> None:
        """To the arbiter, if it has asked."""
        death = task.death
        if not task.answer:
            return
        if not self._arbiter_gone:
            self._channel.send(messages.Recovered(death.slot, death.name, verdict))
        elif not verdict:
            job_id = printable(death.record.job_id)
            logs.error(
                f"job={job_id} not recovered; the next start will do it",
                LogEvent.JOB_NOTICE,
                job=job_id,
            )
