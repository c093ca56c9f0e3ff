"""Carrying out what the core decided: the one place where actions become acts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, NoReturn

from resqued import channel, logs
from resqued.arbiter import unrecovered
from resqued.arbiter.active_config import ActiveConfig
from resqued.arbiter.fork_servers import ForkServers
from resqued.arbiter.pidfile import PidFile
from resqued.arbiter.reexec import Reexec
from resqued.arbiter.view import ArbiterView
from resqued.core import actions, events
from resqued.core.actions import Action
from resqued.core.core import Core
from resqued.logs import LogError, logger
from resqued.plugins.errors import describe
from resqued.scoreboard import VERSION, Order, StewardStatus, Stop
from resqued.signals import DUMP, Mailbox
from resqued.verdicts import Verdict


class Finished(Exception):
    """Everything is gone; the arbiter leaves with `code`."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(code, why)
        self.code = code
        self.why = why


class Effects:
    """Knows how to do each action. An answer goes back to the core before the next action."""

    def __init__(
        self,
        core: Core,
        servers: ForkServers,
        active: ActiveConfig,
        view: ArbiterView,
        announce: Callable[[int | None, str], None],
        mailbox: Mailbox,
    ) -> None:
        self._core = core
        self._servers = servers
        self._active = active
        self._view = view
        self._announce = announce
        self._reexec = Reexec(core, servers, active, view, mailbox)
        self.pidfile: PidFile | None = None

    def perform(self, todo: list[Action]) -> None:
        """Do them in order. Runs in the arbiter, in its loop.

        One that fails keeps none of the others from being done; where the core waits for an
        answer, its failure is the answer.
        """
        for action in todo:
            try:
                _ACTS[type(action)](self, action)
            except Finished:
                raise
            except Exception as error:
                logger.exception(f"[BUG] {type(action).__name__} failed; going on")
                answer = _failure(action, describe(error))
                if answer is not None:
                    self._answer(answer)

    def helpers(self) -> set[int]:
        """Pids of short-lived programs that we wait for ourselves."""
        return self._reexec.helpers()

    def watch_reexec(self, now: float) -> None:
        """Hear how the check of a re-exec ended."""
        outcome = self._reexec.poll(now)
        if outcome is not None:
            self._answer(events.ExecChecked(outcome))

    def reopen_logs(self) -> None:
        """Ours first, so that they belong to us, then everybody's."""
        logs.reopen()
        for generation in self._servers.running:
            self._servers.send(generation, channel.Reopen())
        self._active.hooks.tell("reopen_logs", role="arbiter")

    def _answer(self, event: events.Event) -> None:
        self.perform(self._core.step(event, time.monotonic()))

    def _log(self, action: actions.Log) -> None:
        logger.log(action.level, action.text)

    def _start_fork_server(self, action: actions.StartForkServer) -> None:
        self._answer(self._servers.spawn(action.generation))

    def _begin_loading(self, action: actions.BeginLoading) -> None:
        settings = self._active.config_of(action.generation).as_plain()
        self._servers.send(
            action.generation, channel.Begin(VERSION, settings, self._core.state.identity)
        )

    def _kill_fork_server(self, action: actions.KillForkServer) -> None:
        self._servers.kill(action.generation)

    def _retire_fork_server(self, action: actions.RetireForkServer) -> None:
        self._servers.send(action.generation, channel.Retire())

    def _fork_worker(self, action: actions.ForkWorker) -> None:
        worker = action.worker
        self._servers.scoreboard.set_stop(worker.slot, Stop.NONE)
        self._servers.scoreboard.set_order(worker.slot, Order.NONE, "")
        self._servers.send(
            worker.generation,
            channel.Fork(
                worker.slot, worker.name, worker.serial, list(worker.queues), worker.trial
            ),
        )

    def _set_stop(self, action: actions.SetStop) -> None:
        self._servers.scoreboard.set_stop(action.slot, action.word)

    def _signal_worker(self, action: actions.SignalWorker) -> None:
        self._servers.signal(action.worker, action.signum, action.group)

    def _set_order(self, action: actions.SetOrder) -> None:
        self._servers.scoreboard.set_order(action.slot, action.word, action.execution_id)

    def _fork_steward(self, action: actions.ForkSteward) -> None:
        self._servers.send(action.generation, channel.ForkSteward(action.serial))

    def _clear_steward_status(self, action: actions.ClearStewardStatus) -> None:
        self._servers.scoreboard.set_steward_status(StewardStatus())

    def _signal_steward(self, action: actions.SignalSteward) -> None:
        self._servers.signal_steward(action.steward, action.signum)

    def _start_recovery(self, action: actions.StartRecovery) -> None:
        recovery = action.recovery
        self._servers.send(
            action.generation,
            channel.Recover(
                slot=recovery.slot,
                status=recovery.status,
                record=recovery.record.as_plain(),
                queues=list(recovery.queues),
                interrupted=recovery.interrupted,
                reason=recovery.reason,
                rusage=recovery.rusage,
                owner=recovery.owner,
            ),
        )

    def _keep_recoveries(self, action: actions.KeepRecoveries) -> None:
        identity = self._core.state.identity
        unrecovered.keep(self._active.config, identity, list(action.recoveries))

    def _load_config(self, action: actions.LoadConfig) -> None:
        self._answer(self._active.try_out(action.generation, action.difference))

    def _discard_config(self, action: actions.DiscardConfig) -> None:
        self._active.discard(action.generation)

    def _promote(self, action: actions.Promote) -> None:
        old = self._active.hooks
        new, dropped = self._active.promote(action.generation)
        self._view.config = self._active.config
        try:
            logs.set_up(self._active.config, "arbiter", logs.fds()["log"])
        except LogError as error:
            logger.error(f"{error}; the log stays where it was")
        old.tell_only(dropped, "arbiter_stopping", arbiter=self._view, graceful=True)
        self._active.hooks.tell_only(
            new, "arbiter_started", arbiter=self._view, reason=action.reason
        )

    def _ask_plan(self, action: actions.AskPlan) -> None:
        self._answer(self._active.plan(action.count))

    def _ask_stuck(self, action: actions.AskStuck) -> None:
        worker = action.worker
        self._servers.log_stacks()  # of the step before this one
        verdict = self._active.hooks.ask(
            "worker_stuck",
            arbiter=self._view,
            worker=self._view.snapshot(worker),
            overdue=action.overdue,
            attempt=action.attempt,
        )
        if verdict is not None and not isinstance(verdict, Verdict):
            logger.error(f"hook worker_stuck: answered {verdict!r}, which is no verdict")
            verdict = None
        self._answer(events.Judged(worker.slot, worker.serial, verdict))

    def _dump_stacks(self, action: actions.DumpStacks) -> None:
        self._servers.signal(action.worker, DUMP, group=False)

    def _tell_exited(self, action: actions.TellExited) -> None:
        if action.exit.signal is not None or action.exit.code:
            self._servers.log_stacks()  # a fatal error leaves some
        if not action.worker.trial:
            self._active.hooks.tell(
                "worker_exited",
                arbiter=self._view,
                worker=self._view.snapshot(action.worker),
                exit=action.exit,
            )

    def _tell_ready(self, action: actions.TellReady) -> None:
        self._announce(None, "")
        self._active.hooks.tell("arbiter_ready", arbiter=self._view, reason=action.reason)

    def _tell_announce(self, action: actions.Announce) -> None:
        logger.warning(action.note)
        self._announce(None, action.note)

    def _tell_stopping(self, action: actions.TellStopping) -> None:
        self._active.hooks.tell("arbiter_stopping", arbiter=self._view, graceful=action.graceful)

    def _check_exec(self, action: actions.CheckExec) -> None:
        failed = self._reexec.check(self.pidfile)
        if failed:
            self._answer(events.ExecChecked(failed))

    def _exec(self, action: actions.Exec) -> None:
        self._answer(events.ExecChecked(self._reexec.replace(self.pidfile)))

    def _finish(self, action: actions.Finish) -> NoReturn:
        self._reexec.give_up()
        raise Finished(action.code, action.why)


def _failure(action: Action, why: str) -> events.Event | None:
    """The answer to an action that could not be done; None if none is waited for."""
    match action:
        case actions.StartForkServer(generation):
            return events.Started(generation, 0, why)
        case actions.ForkWorker(worker):
            return events.WorkerNotForked(worker.generation, worker.slot, worker.serial, why)
        case actions.ForkSteward(_, serial):
            return events.StewardForked(serial, 0)
        case actions.StartRecovery(_, recovery):
            return events.RecoveryDone(recovery.name, "")
        case actions.LoadConfig(generation, _):
            return events.LoadFailed(generation, why)
        case actions.AskPlan(count):
            return events.Planned(count, None, why)
        case actions.AskStuck(worker, _, _):
            return events.Judged(worker.slot, worker.serial, None)
        case actions.CheckExec() | actions.Exec():
            return events.ExecChecked(why)
    return None


_ACTS: Final[dict[type[Action], Callable[[Effects, Any], None]]] = {
    actions.KeepRecoveries: Effects._keep_recoveries,
    actions.Log: Effects._log,
    actions.StartForkServer: Effects._start_fork_server,
    actions.BeginLoading: Effects._begin_loading,
    actions.KillForkServer: Effects._kill_fork_server,
    actions.RetireForkServer: Effects._retire_fork_server,
    actions.ForkWorker: Effects._fork_worker,
    actions.SetStop: Effects._set_stop,
    actions.SignalWorker: Effects._signal_worker,
    actions.SetOrder: Effects._set_order,
    actions.ForkSteward: Effects._fork_steward,
    actions.ClearStewardStatus: Effects._clear_steward_status,
    actions.SignalSteward: Effects._signal_steward,
    actions.StartRecovery: Effects._start_recovery,
    actions.LoadConfig: Effects._load_config,
    actions.DiscardConfig: Effects._discard_config,
    actions.Promote: Effects._promote,
    actions.AskPlan: Effects._ask_plan,
    actions.AskStuck: Effects._ask_stuck,
    actions.DumpStacks: Effects._dump_stacks,
    actions.TellExited: Effects._tell_exited,
    actions.TellReady: Effects._tell_ready,
    actions.Announce: Effects._tell_announce,
    actions.TellStopping: Effects._tell_stopping,
    actions.CheckExec: Effects._check_exec,
    actions.Exec: Effects._exec,
    actions.Finish: Effects._finish,
}
