"""Executes the core's actions. It decides nothing: what an action means is in `core.actions`."""

from __future__ import annotations

import collections
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, assert_never

from resqued import logs, messages
from resqued.arbiter import unrecovered
from resqued.arbiter.active_config import ActiveConfig
from resqued.arbiter.control import Control
from resqued.arbiter.fork_servers import ForkServers
from resqued.arbiter.pidfile import PidFile
from resqued.arbiter.reexec import Reexec
from resqued.core import actions, events
from resqued.core.actions import Action
from resqued.core.core import Core
from resqued.core.state import WorkerHandle
from resqued.death import Death
from resqued.logs import LogError, LogEvent
from resqued.mailbox import Mailbox
from resqued.plugins.errors import describe
from resqued.scoreboard import VERSION, Order, StewardStatus, Stop
from resqued.scoreboard.counts import count_recovered, take_full
from resqued.snapshots import Exit
from resqued.verdicts import ConfigError, Verdict

_ASKS: Final = (actions.LoadConfig, actions.AskPlan, actions.AskStuck, actions.CheckExec)
"""Actions that need an answer of a plugin."""


_REPLACED: Final = "the arbiter's image is replaced"


class Finished(Exception):
    """Everything is gone; the arbiter leaves with `code`."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(code, why)
        self.code = code
        self.why = why


class Failure(Exception):
    """An action cannot be done, for a reason that is no defect of resqued."""


class Effects:
    """Does each action. An answer goes to the core before the next action is done."""

    def __init__(
        self,
        core: Core,
        servers: ForkServers,
        active: ActiveConfig,
        control: Control,
        announce: Callable[[int | None, str], None],
        mailbox: Mailbox,
    ) -> None:
        self._core = core
        self._servers = servers
        self._board = servers.scoreboard
        self._active = active
        self._control = control
        self._view = control.view
        self._announce = announce
        self._reexec = Reexec(core, servers, active, control, mailbox)
        self.pidfile: PidFile | None = None
        self.reopening_for = ""
        """` (USR1)` if a signal is why logs are reopened."""
        # What is done now, and what remains of its list; an action's answer has a list of its own.
        self._under_way: list[tuple[Action, collections.deque[Action]]] = []
        self._without_plugins = False  # for `replace_image`

    def perform(self, todo: Iterable[Action]) -> None:
        """Do them in order. Runs in the arbiter, in its loop.

        A failure is reported to the core, and the others are done.
        """
        rest = collections.deque(todo)
        while rest:
            action = rest.popleft()
            self._under_way.append((action, rest))
            try:
                self._do(action)
            except Finished:
                raise
            except (Failure, ConfigError) as error:
                self._answer(events.ActionFailed(action, str(error)))
            except BaseException as error:
                logs.exception(f"[BUG] {type(action).__name__} failed; going on", LogEvent.DEFECT)
                self._answer(events.ActionFailed(action, describe(error)))
            finally:
                self._under_way.pop()

    def replace_image(
        self, environ: Mapping[str, str], waiting: Sequence[int], silenced: dict[str, str]
    ) -> str:
        """Exec this image again while an action calls a hook that does not end; as for
        `Reexec.force`.

        The action fails, unless it has been answered. What remains is done, without hooks; what
        needs a plugin's answer fails. Raises Finished if all is over.
        """
        self._without_plugins = True
        try:
            under_way, self._under_way = self._under_way, []
            if under_way:
                self._answer(events.ActionFailed(under_way[-1][0], _REPLACED))
            for _, rest in reversed(under_way):
                self.perform(rest)
                rest.clear()
            for posted in self._control.inbox.take():
                if isinstance(posted, events.Asked):
                    self._answer(posted)
            self._under_way = under_way
            self._announce(None, "a hook could not be ended, see the log")  # who waits cannot go on
            return self._reexec.force(self.pidfile, environ, waiting, silenced)
        finally:
            self._without_plugins = False

    def helpers(self) -> set[int]:
        """Pids of short-lived programs that `Children` must not reap."""
        return self._reexec.helpers()

    def watch_reexec(self, now: float) -> None:
        """Report the end of the check of a re-exec to the core."""
        problem = self._reexec.poll(now)
        if problem is None:
            return
        failed = events.ActionFailed(actions.CheckExec(), problem)
        self._answer(failed if problem else events.ExecChecked())

    def _reopen_logs(self) -> None:
        """Reopen the arbiter's log first, so that new files belong to its user, then the
        others'."""
        logs.reopen()
        names = ", ".join(sorted(set(logs.files().values())))
        cause, self.reopening_for = self.reopening_for, ""
        logs.info(f"logs reopened{cause}: {names or 'none is a file'}", LogEvent.LOGS_REOPENED)
        for generation in self._servers.running:
            self._servers.send(generation, messages.Reopen())
        self._active.hooks.tell("reopen_logs", role="arbiter")

    def _answer(self, event: events.Event) -> None:
        self.perform(self._core.step(event, time.monotonic()))

    def _do(self, action: Action) -> None:
        if self._without_plugins and isinstance(action, _ASKS):
            raise Failure(_REPLACED)
        match action:
            case actions.Log(level, text, event, fields):
                logs.at(level, text, event, **fields)
            case actions.StartForkServer(generation):
                self._answer(events.Started(generation, self._spawn(generation)))
            case actions.BeginLoading(generation):
                self._begin_loading(generation)
            case actions.Send(generation, message):
                self._servers.send(generation, message)
            case actions.KillForkServer(generation):
                self._servers.kill(generation)
            case actions.StartWorker(worker):
                self._start_worker(worker)
            case actions.SetStop(slot, word, cause):
                self._board.set_stop(slot, word, cause)
            case actions.SetOrder(slot, word, execution_id, reason):
                self._board.set_order(slot, word, execution_id, reason)
            case actions.SignalChild(pid, signum):
                self._servers.signal_child(pid, signum)
            case actions.KillGroup(slot, pid):
                self._servers.kill_group(slot, pid)
            case actions.ClearStewardStatus():
                self._board.set_steward_status(StewardStatus())
            case actions.KeepDeaths(deaths):
                unrecovered.keep(self._active.config, self._core.state.identity, deaths)
            case actions.LoadConfig(generation, difference):
                policy, plan = self._active.try_out(generation, difference)
                self._answer(events.ConfigLoaded(generation, policy, plan))
            case actions.DiscardConfig(generation):
                self._active.discard(generation)
            case actions.Promote(generation, reason, count):
                self._promote(generation, reason)
                self._answer(events.Promoted(reason, count))
            case actions.AskPlan(count):
                self._answer(events.Planned(self._active.plan(count)))
            case actions.AskStuck(worker, overdue, attempt):
                self._ask_stuck(worker, overdue, attempt)
            case actions.TellStarted(worker):
                self._tell("worker_started", worker=self._view.snapshot(worker))
            case actions.TellExited(worker, ending):
                self._tell_exited(worker, ending)
            case actions.TellLost(worker, job_id, verdict):
                snapshot = self._view.snapshot(worker)
                if isinstance(worker, Death):
                    count_recovered(self._board, worker.record, verdict)
                self._tell("job_lost", worker=snapshot, job_id=job_id, verdict=verdict)
            case actions.TellGenerationFailed(number, pid, reason):
                failed = self._view.generation_of(number, pid)
                self._tell("generation_failed", generation=failed, reason=reason)
            case actions.TellReady(reason, error):
                self._announce(None, "")
                self._tell("arbiter_ready", reason=reason, error=error)
            case actions.Announce(note):
                logs.warning(note, LogEvent.ARBITER_NOTICE)
                self._announce(None, note)
            case actions.TellStopping(graceful):
                self._tell("arbiter_stopping", graceful=graceful, dropped=False)
            case actions.CheckExec():
                self._fail_if(self._reexec.check(self.pidfile))
            case actions.Exec():
                self._fail_if(self._reexec.replace(self.pidfile))
            case actions.Answer(ticket, refused):
                self._control.inbox.answer(ticket, refused)
            case actions.LookAgain():
                self._board.call_idle()
            case actions.ReopenLogs():
                self._reopen_logs()
            case actions.Finish(code, why):
                self._reexec.give_up()
                raise Finished(code, why)
            case _:
                assert_never(action)

    def _fail_if(self, problem: str) -> None:
        if problem:
            raise Failure(problem)

    def _tell(self, hook: str, **arguments: Any) -> None:
        self._active.hooks.tell(hook, arbiter=self._view, **arguments)

    def _spawn(self, generation: int) -> int:
        env = dict(os.environ)
        self._active.hooks_of(generation).tell("fork_server_env", env=env)
        for name, value in list(env.items()):
            if not _is_variable(name, value):
                logs.error(
                    f"hook fork_server_env: env[{name!r}] = {value!r} can be no variable of the"
                    " environment (text without NUL); it is left out",
                    LogEvent.ARBITER_NOTICE,
                )
                del env[name]
        try:
            return self._servers.spawn(generation, env)
        except OSError as error:
            raise Failure(str(error)) from error

    def _begin_loading(self, generation: int) -> None:
        settings = self._active.config_of(generation).as_plain()
        state = self._core.state
        reload = generation == state.booting
        begin = messages.Begin(VERSION, settings, state.identity, reload)
        self._servers.send(generation, begin)

    def _start_worker(self, worker: WorkerHandle) -> None:
        self._board.set_stop(worker.slot, Stop.NONE)
        self._board.set_order(worker.slot, Order.NONE, "")
        message = messages.ForkWorker(
            worker.slot, worker.name, worker.serial, list(worker.queues), worker.trial
        )
        self._servers.send(worker.generation, message)

    def _promote(self, generation: int, reason: str) -> None:
        old = self._active.hooks
        new, dropped = self._active.promote(generation)
        try:
            logs.set_up(self._active.config, "arbiter", logs.fds()["log"])
        except LogError as error:
            logs.error(f"{error}; the log stays where it was", LogEvent.ARBITER_NOTICE)
        old.tell_only(dropped, "arbiter_stopping", arbiter=self._view, graceful=True, dropped=True)
        self._control.periodic.end(dropped)
        self._active.hooks.tell_only(new, "arbiter_started", arbiter=self._view, reason=reason)

    def _ask_stuck(self, worker: WorkerHandle, overdue: float, attempt: int) -> None:
        self._servers.log_stacks()  # of the step before this one
        verdict = self._active.hooks.ask(
            "worker_stuck",
            arbiter=self._view,
            worker=self._view.snapshot(worker),
            overdue=overdue,
            attempt=attempt,
        )
        if verdict is not None and not isinstance(verdict, Verdict):
            logs.error(
                f"hook worker_stuck: answered {verdict!r}, which is no verdict",
                LogEvent.ARBITER_NOTICE,
            )
            verdict = None
        self._answer(events.Judged(worker.slot, worker.serial, verdict))

    def _tell_exited(self, worker: WorkerHandle, ending: Exit) -> None:
        take_full(self._board, worker.slot)
        if ending.signal is not None or ending.code:
            self._servers.log_stacks()  # a fatal error leaves some
        if not worker.trial:
            self._tell("worker_exited", worker=self._view.snapshot(worker), exit=ending)


def _is_variable(name: object, value: object) -> bool:
    """Whether this can be in an environment."""
    if not (isinstance(name, str) and isinstance(value, str)):
        return False
    return bool(name) and "=" not in name and "\0" not in name + value
