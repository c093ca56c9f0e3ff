"""The duties process of a fork server: forked while it is wanted, watched, started again."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from resqued import linux, logs
from resqued.backoff import backoff
from resqued.config import Config
from resqued.death import how_it_ended
from resqued.duties.call_record import CallRecord
from resqued.duties.definition import DutyDefinition
from resqued.forkserver import children
from resqued.forkserver.notes import Notes
from resqued.forkserver.process_exit import ProcessExit
from resqued.forkserver.worker_start import OOM_POINTS
from resqued.logs import LogEvent
from resqued.signal_table import REOPEN

if TYPE_CHECKING:
    from resqued.duties.boot import DutiesBoot
    from resqued.messages import Inherited
    from resqued.plugins.hooks import Hooks
    from resqued.scoreboard import Scoreboard

DutiesRun = Callable[["DutiesBoot"], int]

END: Final = 2.0
"""Seconds that it may take to leave; then it is killed."""

EXIT: Final = 1.0
"""Seconds of these for its exit functions."""

STEADY: Final = 60.0
"""Seconds of life after which earlier failures are forgotten."""

_LOOK: Final = 30.0  # seconds between two looks, at most
_SOON: Final = 0.5  # the same, at least, while nothing is called
_LATE: Final = 5.0  # seconds by which a look is late if all processes were stopped meanwhile


class DutiesProcess:
    """At most one. Nothing happens without duties.

    run: the process's life. abandon: closes in a child what belongs to the fork server. notes: what
    the generation has logged.
    """

    def __init__(
        self,
        given: Inherited,
        config: Config,
        board: Scoreboard,
        hooks: Hooks,
        identity: str,
        duties: tuple[DutyDefinition, ...],
        run: DutiesRun,
        abandon: Callable[[], None],
        notes: Notes,
    ) -> None:
        self._given = given
        self._config = config
        self._board = board
        self._hooks = hooks
        self._identity = identity
        self._duties = duties
        self._run = run
        self._abandon = abandon
        self._notes = notes
        self._record = CallRecord(len(duties))
        self._wanted = False
        self._pid: int | None = None
        self._began = 0.0
        self._kill_at: float | None = None  # it was told to leave
        self._killed = False  # the log says why
        self._failures = 0  # in a row
        self._not_before = 0.0  # back-off
        self._look_at = 0.0

    def __len__(self) -> int:
        return int(self._pid is not None)

    @property
    def pids(self) -> list[int]:
        return [] if self._pid is None else [self._pid]

    @property
    def deadline(self) -> float | None:
        """When to call `turn`; seconds, monotonic."""
        if self._pid is not None:
            return self._kill_at if self._kill_at is not None else self._look_at
        return self._not_before if self._wanted else None

    def want(self, wanted: bool) -> None:
        """Start it, or tell it to leave. Repeatable."""
        self._wanted = wanted and bool(self._duties)
        if not self._wanted and self._pid is not None and self._kill_at is None:
            self._kill_at = time.monotonic() + END
            self._signal(signal.SIGTERM)

    def turn(self) -> None:
        """Start it if it is due; kill it if it takes too long."""
        now = time.monotonic()
        if self._pid is None:
            if self._wanted and now >= self._not_before:
                self._start(now)
        elif self._kill_at is not None:
            if now >= self._kill_at:
                self._kill_at = now + END
                self._kill()
        elif now >= self._look_at:
            self._look(now)

    def reopen(self) -> None:
        """Have it reopen its log files."""
        self._signal(REOPEN)

    def ended(self, status: int) -> None:
        """It has been reaped."""
        pid, self._pid = self._pid, None
        if self._board.duties == pid:  # else it is another generation's
            self._board.duties = 0
        expected, self._kill_at = self._kill_at is not None, None
        if expected:
            logs.debug(f"duties pid={pid} exited")
            self._failures = 0
            return
        now = time.monotonic()
        if now - self._began > STEADY:
            self._failures = 0
        self._failures += 1
        delay = backoff(self._failures)
        self._not_before = now + delay
        if self._killed:
            return
        number = self._record.read().number
        why = how_it_ended(status)
        if number is not None:
            why += f", in duty '{self._duties[number].name}'"
            self._note_death(number, self._not_before)
        again = f"; next try in {delay:g} s" if delay else ""
        logs.error(f"duties pid={pid} ended: {why}{again}", LogEvent.DUTIES_ENDED, reason=why)

    def _note_death(self, number: int, again: float) -> None:
        """A duty in whose call the process has died is called again at once, after the others that
        are due; from the second time in a row on, not before its time."""
        deaths = self._record.deaths(number)
        due = self._record.due(number) if deaths else again
        self._record.set_due(number, due, deaths=deaths + 1)

    def _look(self, now: float) -> None:
        """Kill it if its deadline is over, unless this process was stopped too meanwhile."""
        late = now - self._look_at > _LATE
        doing = self._record.read()
        if doing.deadline > now:
            self._look_at = now + self._pause() if doing.number is None else doing.deadline
        elif late:
            self._look_at = now + _LATE
        else:
            self._look_at = now + END
            self._overran(doing.number, now - doing.began)

    def _pause(self) -> float:
        """Seconds in which no call can both begin and exceed its limit by much."""
        return max(_SOON, min(_LOOK, *(duty.limit for duty in self._duties)))

    def _overran(self, number: int | None, seconds: float) -> None:
        self._killed = True
        if number is None:
            logs.error(
                f"duties pid={self._pid} killed: its loop stands still",
                LogEvent.DUTIES_KILLED,
                reason="its loop stands still",
            )
        else:
            duty = self._duties[number]
            logs.error(
                f"duties pid={self._pid} killed: duty '{duty.name}' of plugin '{duty.plugin}' took"
                f" {seconds:.1f} s, its limit is {duty.limit:g} s; it is called again in"
                f" {duty.every:g} s",
                LogEvent.DUTIES_KILLED,
                duty=duty.name,
                plugin=duty.plugin,
                seconds=round(seconds, 3),
                reason="a call exceeded its limit",
            )
        self._kill()

    def _kill(self) -> None:
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)

    def _signal(self, signum: int) -> None:
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self._pid, signum)

    def _start(self, now: float) -> None:
        self._record.note(None, now, now + self._config.boot_timeout)
        self._killed = False
        try:
            self._pid = children.fork(self._live, abandon=self._abandon, orphaned=signal.SIGKILL)
        except OSError as error:
            self._failures += 1
            self._not_before = now + max(1.0, backoff(self._failures))
            logs.error(
                f"the duties process cannot be forked: {error.strerror}",
                LogEvent.DUTIES_ENDED,
                reason=error.strerror,
            )
            return
        self._board.duties = self._pid
        self._began, self._look_at = now, now + self._pause()
        names = ", ".join(duty.name for duty in self._duties)
        logs.info(f"duties pid={self._pid} started: {names}", LogEvent.DUTIES_STARTED)

    def _live(self) -> int:
        """Runs in the duties process."""
        from resqued.duties.boot import DutiesBoot

        pid = os.getpid()
        linux.raise_oom_score(OOM_POINTS)
        logs.set_who(f"duties gen={self._given.generation} pid={pid}")
        code = self._run(
            DutiesBoot(self._config, self._identity, self._duties, self._record, self._hooks)
        )
        ProcessExit(
            min(EXIT, self._config.exit_timeout),
            hurried=lambda: None,
            notes=self._notes,
            stacks=self._given.dumps,
        ).leave(code)
