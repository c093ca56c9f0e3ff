"""The arbiter: one loop that reaps, checks, reconciles and waits.

It turns what happens into events, has the core decide (`resqued.core`), and executes the actions
(`effects`). It holds no application code and no Redis connection, and never forks.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from resqued import linux, logs, signals
from resqued.arbiter import loop_wait, reexec, unrecovered
from resqued.arbiter.active_config import ActiveConfig
from resqued.arbiter.containment import ArbiterContainment
from resqued.arbiter.control import Control
from resqued.arbiter.descriptors import Descriptors
from resqued.arbiter.effects import Effects, Finished
from resqued.arbiter.final_exit import bound_exit
from resqued.arbiter.fork_servers import ForkServers
from resqued.arbiter.idle_turns import IdleTurns
from resqued.arbiter.launch import Launched, make_doorbell
from resqued.arbiter.pidfile import PidFile, PidFileError
from resqued.arbiter.publisher import Publisher
from resqued.arbiter.worker_records import WorkerRecords
from resqued.config import Config
from resqued.core import events
from resqued.core.core import Core
from resqued.core.state import Mode, Policy, Recovery, State
from resqued.exits import ExitCode
from resqued.invocation import Invocation
from resqued.logs import LogEvent
from resqued.mailbox import Mailbox
from resqued.plan import make_plan
from resqued.plugins.hooks import silenced, silenced_because
from resqued.scoreboard import Scoreboard
from resqued.settings.loader import LoadedConfig
from resqued.signal_table import TABLE, InArbiter, SignalRow, row_named, row_of
from resqued.verdicts import ConfigError

TICK: Final = 1.0
"""Seconds between two `tick` hooks, and the longest wait."""

COUNT: Final = 5.0
"""Seconds between two `worker_count` hooks."""

FORCE: Final = 25.0
"""Seconds after a stop now, after which the arbiter exits whatever is left. All steps of a stop
together take less."""

LISTENED: Final = frozenset(row.signum for row in TABLE if row.arbiter is not InArbiter.DEFAULT)


class ArbiterLoop:
    """One run of it: `ArbiterLoop(loaded, reload, announce).run()` returns the exit code.

    reload: reads everything again, given the settings in force. announce: called once, when the
    service is up (None, and a warning or nothing) or has failed (exit code, message). launched: a
    fork server that was started before. invocation: how this process was started.
    Raises ConfigError when a worker would have no queue.
    """

    def __init__(
        self,
        loaded: LoadedConfig,
        reload: Callable[[Config], LoadedConfig],
        announce: Callable[[int | None, str], None],
        launched: Launched | None = None,
        *,
        invocation: Invocation,
    ) -> None:
        self._inherited = reexec.take(os.environ)
        self._active = ActiveConfig(loaded, reload)
        self._announce = announce
        if self._inherited is not None:
            self._board = Scoreboard(self._inherited.scoreboard)
            self._doorbell = self._inherited.doorbell
            state = self._inherited.state
        else:
            self._board = launched.scoreboard if launched else Scoreboard.create()
            self._doorbell = launched.doorbell if launched else make_doorbell()
            config = loaded.config
            plan = make_plan(self._active.hooks, config, config.workers)
            state = State(_identity(), Policy.of(config), plan, since=time.time())
        state.terminal = not loaded.config.daemonize and os.isatty(0)
        first = launched.server if launched else None
        self._servers = ForkServers(self._board, self._doorbell, invocation, first)
        if launched:
            launched.taken = True
        self._core = Core(state)
        self._control = Control(self._active, state, self._board, self._servers.wake)
        self._view = self._control.view
        self._publisher = Publisher(self._board)
        self._idle_turns = IdleTurns(self._board)
        self._pidfile: PidFile | None = None
        self._next_tick = self._next_count = time.monotonic()
        self._records = WorkerRecords(self._board)
        self._overslept = False
        self._took = 0.0  # seconds, of the last whole turn
        self._due: float | None = None  # the core's next deadline
        self._stirred = True  # something has ended the last wait
        self._ticked = False  # the last whole turn called `tick`
        self._dozed = False  # the last turn did nothing
        self._stumbled = False  # a part of this turn has failed
        self._stopping_since = time.monotonic()  # the stop may come before the first turn
        self._why = ""  # the reason for an exit code other than 0

    @property
    def _state(self) -> State:
        return self._core.state

    def run(self) -> int:
        """Run the loop until nothing is left. Returns the exit code."""
        linux.become_subreaper()
        # before the pid file: signals may come from the moment it exists
        with Mailbox(LISTENED) as mailbox:
            signals.unblock()
            self._effects = Effects(
                self._core,
                self._servers,
                self._active,
                self._control,
                self._announce,
                mailbox,
            )
            self._containment = ArbiterContainment(
                self._state,
                mailbox,
                self._control.inbox,
                self._effects,
                Descriptors(mailbox, self._servers, self._control),
                self._leave,
                self._servers.invocation.directory,
            )
            self._containment.install()
            try:
                code = self._serve(mailbox)
            except ConfigError as error:
                code = self._refused(os.EX_CONFIG, str(error))
            except PidFileError as error:
                return self._leave(self._refused(error.exit_code, str(error)))
            self._control.periodic.end_all()
            self._containment.ended = code
            self._active.hooks.tell("arbiter_exited", arbiter=self._view, exit_code=code)
            self._control.close()
            return self._leave(code)

    def _serve(self, mailbox: Mailbox) -> int:
        self._begin()
        while True:
            self._board.turned = time.monotonic()
            try:
                # first: a turn that fails must not hide them
                self._containment.waiting.extend(mailbox.collect())
                while self._containment.waiting:
                    self._stirred = True
                    with self._going_on():
                        self._signalled()
                with self._going_on():
                    self._stirred |= self._control.read(self._do)
                self._end_by_force()
                if self._stirred or self._overslept or not self._doze():
                    self._turn_whole()
                    self._control.answer()
                if self._stumbled:
                    self._stumbled = False
                    time.sleep(TICK)  # against a busy loop
                self._wait(mailbox)
            except Finished as finished:
                self._why = finished.why
                return finished.code
            except BaseException:  # in the loop none is the user's
                logs.exception("[BUG] a turn of the loop failed; going on", LogEvent.DEFECT)
                time.sleep(TICK)

    def _begin(self) -> None:
        """A cold start, or the new image of a re-exec."""
        config = self._active.config
        if self._inherited is not None:
            self._servers.restore(self._inherited.servers)
            self._control.recent.restore(self._inherited.recent)
            if self._inherited.pidfile is not None and self._inherited.pidfile_path is not None:
                path, fd = self._inherited.pidfile_path, self._inherited.pidfile
                self._pidfile = PidFile.adopt(path, fd)
            self._effects.pidfile = self._pidfile
            self._containment.waiting.extend(
                row_named(name).signum for name in self._inherited.signals
            )
            socket = self._inherited.control
            self._control.open((socket, self._inherited.control_path) if socket else None)
            for plugin, hook in silenced.items():
                logs.critical(
                    f"plugin '{plugin}': {silenced_because(hook)}", LogEvent.ARBITER_NOTICE
                )
            self._started("re-exec")
            self._do(events.Resumed())
            return
        if config.pid is not None:
            self._pidfile = PidFile.acquire(config.pid)
        self._effects.pidfile = self._pidfile
        self._control.open()
        kept = unrecovered.take(config)
        self._state.recoveries.update({death.name: Recovery(death) for death in kept})
        self._servers.launch_early(self._state.current)
        self._started("start")
        self._effects.perform(self._core.begin(time.monotonic()))

    def _started(self, reason: str) -> None:
        try:
            self._active.hooks.tell_unless_refused(
                "arbiter_started", arbiter=self._view, reason=reason
            )
        except ConfigError:
            if reason == "start":
                raise
            logs.exception(
                "hook arbiter_started: too late to stop for that", LogEvent.ARBITER_NOTICE
            )

    def _refused(self, code: int, error: str) -> int:
        """Log a refused start, and kill the first fork server; there is no other child yet."""
        logs.error(error, LogEvent.START_FAILED, reason=error)
        self._why = error
        self._servers.end_all()
        return code

    def _leave(self, code: int) -> int:
        if self._pidfile is not None:
            self._pidfile.release()
        if code:  # after it: the process that waited for this may start another at once
            self._announce(code, f"resqued: error: {self._why or 'see the log'}")
        # The interpreter's exit restores default actions: no signal may end the process by one, in
        # this
        # thread or in another, which has its own mask.
        signal.pthread_sigmask(signal.SIG_BLOCK, LISTENED)
        for signum in LISTENED - {signal.SIGCHLD}:
            signal.signal(signum, signal.SIG_IGN)
        bound_exit(code)
        logs.info(
            f"bye, exit code {code}",
            LogEvent.ARBITER_STOPPED,
            exit_code=code,
            reason=self._why or None,
        )
        return code

    def _doze(self) -> bool:
        """Only call the plugins, if that is due; False if more has to be done."""
        self._dozed = False
        if not self._idle_turns.is_quiet():
            return False
        now = time.monotonic()
        hooks = self._active.hooks
        self._dozed = not (hooks.has("tick") or hooks.has("worker_count"))
        if now < self._next_tick:
            return True
        self._next_tick = now + TICK
        return self._dozed or self._call_plugins(now)

    def _turn_whole(self) -> None:
        self._dozed = False
        self._idle_turns.end()
        began = time.monotonic()
        self._turn()
        now = time.monotonic()
        self._due = self._core.next_deadline(now)
        # Unknown zombies are looked for only in a turn with a tick.
        if self._ticked and not (self._stumbled or self._servers.unsettled):
            self._idle_turns.begin(self._state, self._records.seen, self._due)
        self._took = now - began
        self._overslept = self._took > loop_wait.OVERSLEPT

    def _turn(self) -> None:
        """Reap, check, reconcile."""
        with self._going_on():
            self._do_all(self._servers.receive(self._state.workers()))
        with self._going_on():
            workers, stewards = self._state.workers(), list(self._state.stewards.values())
            self._do_all(self._servers.children.reap(workers, stewards))
        now = time.monotonic()
        with self._going_on():
            self._effects.watch_reexec(now)
        ticking = self._ticked = now >= self._next_tick
        if ticking:
            self._next_tick = now + TICK
            with self._going_on():
                self._tick(now)
        records, status = self._records.read(self._state.workers()), self._board.steward_status()
        if ticking:
            self._records.find_frozen(now)
        self._do(events.Turn(records, status, self._records.frozen, self._overslept))
        self._publisher.publish(self._state, self._active.config, self._control.path)

    def _do_all(self, happened: Iterable[events.Event]) -> None:
        for event in happened:
            self._do(event)

    @contextlib.contextmanager
    def _going_on(self) -> Iterator[None]:
        """Log an error in one part of a turn, and go on with the other parts and signals."""
        try:
            yield
        except BaseException:
            logs.exception("[BUG] a part of a turn of the loop failed; going on", LogEvent.DEFECT)
            self._stumbled = True

    def _end_by_force(self) -> None:
        """End an arbiter that was told to stop now FORCE seconds ago, even if its loop is
        broken."""
        now = time.monotonic()
        if self._state.mode is not Mode.STOPPING or self._overslept:
            self._stopping_since = now
        elif now - self._stopping_since > FORCE:
            logs.critical(
                f"not ended {FORCE:g} s after the stop: all its processes are killed",
                LogEvent.ARBITER_NOTICE,
            )
            self._servers.kill_all(self._known())
            raise Finished(ExitCode.TRY_LATER, f"it could not end in {FORCE:g} s")

    def _tick(self, now: float) -> None:
        self._call_plugins(now)
        self._servers.log_stacks()
        self._servers.children.reap_strangers(self._known())
        if self._pidfile is not None:
            self._pidfile.check()

    def _call_plugins(self, now: float) -> bool:
        """Call the hooks that are due; return whether they changed nothing."""
        self._active.hooks.tell("tick", arbiter=self._view, now=now)
        if now < self._next_count:
            return True
        self._next_count = now + COUNT
        wanted = self._active.hooks.ask(
            "worker_count", arbiter=self._view, current=self._state.target
        )
        if wanted is None:
            return True
        before = self._state.target
        self._do(events.Counted(int(wanted)))
        return self._state.target == before

    def _known(self) -> set[int]:
        known = {server.pid for server in self._servers.running.values()}
        known |= {s.pid for s in self._state.stewards.values() if s.pid is not None}
        known |= {worker.pid for worker in self._state.workers() if worker.pid is not None}
        return known | self._effects.helpers()

    def _wait(self, mailbox: Mailbox) -> None:
        """Sleep until something happens or is due. Last in a turn, because it blocks."""
        if not self._dozed:
            self._containment.check()
        until = min(self._next_tick, self._due) if self._due is not None else self._next_tick
        polled = self._control.polled()
        woken = loop_wait.wait(mailbox, self._servers, polled, until, self._took)
        self._control.delay.note(woken.ended, until)
        self._stirred = woken.by_event
        self._overslept = self._overslept or woken.overslept

    def _signalled(self) -> None:
        """Act on the first signal that waits; it does until the plugins have been asked."""
        waiting = self._containment.waiting
        name = ""
        try:
            name = self._unanswered(row_of(waiting[0]))
        finally:
            waiting.popleft()
        if name:
            self._do(events.Signalled(name))

    def _unanswered(self, row: SignalRow) -> str:
        """The name of the signal to act on; empty if that is done."""
        if row.arbiter is InArbiter.WAKE:
            return ""
        name = row.name
        if name == "HUP" and self._state.terminal and not os.isatty(0):
            logs.warning("the terminal has hung up: as QUIT", LogEvent.ARBITER_NOTICE)
            name = "QUIT"
        handled = self._active.hooks.ask("signal_received", arbiter=self._view, signame=name)
        if handled is not True:
            return name
        if row.arbiter is InArbiter.REOPEN:
            self._effects.reopening_for = f" ({row.name})"
        level = "DEBUG" if row.arbiter is InArbiter.REOPEN else "INFO"  # which logs its own line
        text = f"signal {row.name}: a plugin acts on it"
        logs.at(level, text, LogEvent.SIGNAL_RECEIVED, signal=row.name)
        return ""

    def _do(self, event: events.Event) -> None:
        self._effects.perform(self._core.step(event, time.monotonic()))


def _identity() -> str:
    """`<host>.<arbiter id>`: where the names of its workers begin. It is never used again."""
    host = linux.host_name().split(".")[0] or "localhost"
    return f"{host}.{os.getpid()}-{time.time_ns() // 1_000_000 % 36**6:x}"
