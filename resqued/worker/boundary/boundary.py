"""Restore the process's state after each job.

A worker runs job after job in one process; RQ forks for each. So that changes which one job makes
to the process do not affect the next, everything in this table is checked after each job, and
restored if it was changed. The check takes about twenty microseconds (`tests/benchmarks/boundary`).

| what | restored by | set by an import |
|---|---|---|
| the worker's signal handlers, mask, timers * | `Signals.take_back` | no |
| standard descriptors, RQ's loggers * | a copy, or the path of the log | no |
| resource limits * | setrlimit(2); refused: a new worker | no |
| `logging.disable` * | assignment | stays |
| other signal handlers | `signal.signal` | stays, but SIGCHLD ignored |
| working directory, umask | fchdir(2), umask(2) | no |
| environment: changed or deleted | `os.environ` | stays |
| environment: added | not: stays, is logged once | stays |
| `sys.stdin`, `stdout`, `stderr` | assignment; a new one if closed | stays |
| `sys.path`, warning filters, locale ... | assignment | stays |
| asyncio's event loop | closed: a new one, or none yet | no |
| priority, user, group, process group | a system call; refused: a new worker | no |
| context variables, decimal's context | not: each job has a copy | stays |
| threads | not: logged once, counted (`--max-threads`) | not counted |
| zombies | reaped at the second look | no |
| descriptors that are left open | not: a new worker when few are free | no |

Rows with a * are restored right after the job's code, since the worker needs them to write the
outcome, and like all others once more after callbacks and hooks.

The state to which everything returns is that before the first job, and again whenever the function
of a job has been imported. What a module sets that a job imports later cannot be distinguished from
what the job itself sets; then both stay, where the table says so.
"""

from __future__ import annotations

import contextvars
import itertools
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from resqued import logs
from resqued.logs import LogEvent
from resqued.worker.boundary.environment import Directory, Environment
from resqued.worker.boundary.resources import FreeDescriptors, Threads, Zombies
from resqued.worker.boundary.streams import StandardDescriptors, Streams
from resqued.worker.boundary.values import Handlers, Row, Umask, disabled, limits, values
from resqued.worker.job.signals import WORKER_SIGNALS
from resqued.worker.signals import Signals

T = TypeVar("T")

_STANDARD: Final = sys.stdlib_module_names


class Boundary:
    """Restores the state of one worker's process, in its main thread. signals: the worker's."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._environment = Environment()
        self._streams = Streams()
        self._descriptors = StandardDescriptors()
        self._directory = Directory()
        self._first: tuple[Row, ...] = (self._descriptors, limits(), disabled())
        self._rest: tuple[Row, ...] = (
            Handlers(WORKER_SIGNALS),
            self._directory,
            Umask(),
            self._environment,
            self._streams,
            *values(),
        )
        self._all = (*self._first, *self._rest)
        self._threads = Threads()
        self._zombies = Zombies()
        self._free = FreeDescriptors()
        self._context = contextvars.Context()
        self._count = 0
        self._taken = False
        self._entered = False  # whether code of the user's has run since `regain`
        self._failed = False

    @property
    def threads(self) -> int:
        """How many threads jobs have left running."""
        return self._threads.left

    # Before and in a job.

    def enter(self) -> None:
        """Before a job; before the first, save the state."""
        if not self._taken:
            self._taken = True
            self._context = contextvars.copy_context()
            self._take()
            self._threads.take()
            self._free.take()
        self._entered = True

    def put(self, **variables: str) -> None:
        """Set environment variables for the job. Raises ValueError for what cannot be set."""
        self._environment.put(**variables)

    def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """Run all code of one job in a context of its own (contextvars)."""
        self._job_context = self._context.copy()
        return self._job_context.run(self._run, call, *arguments)

    def _run(self, call: Callable[..., T], *arguments: Any) -> T:
        decimal = sys.modules.get("decimal")
        if decimal is not None:  # its context is changed in place
            decimal.setcontext(decimal.getcontext().copy())
        return call(*arguments)

    def importing(self, load: Callable[[], object]) -> None:
        """Import a job's function, in its context; the state after the import is saved."""
        if not self._taken:
            load()
            return
        before = contextvars.copy_context()
        load()
        if len(sys.modules) != self._count:
            now = contextvars.copy_context()
            self._keep(var for var in now if now[var] is not before.get(var, now))
            self._take()
            self._threads.adopt()

    # After it.

    def regain(self) -> None:
        """Right after code of the user's: restore what the worker needs to write the outcome.
        Raises nothing; what cannot be restored is reported by `leave`."""
        if self._taken:  # else user code runs the job, outside of `work`
            self._settle(self._first, grown=bool(self._imported()))
        logs.repair()
        self._signals.take_back()
        self._entered = False

    def use(self) -> None:
        """Call before code of the user's runs again: a callback, a hook."""
        self._entered = True

    def leave(self, job_id: str, *, childless: bool = False) -> list[str]:
        """After a job, its callbacks and hooks: restore the rest; what could not be, as text.
        childless: it is known that there is no child process."""
        self._streams.flush()
        imported = self._imported()
        rows = self._all if imported or self._entered or self._failed else self._rest
        failed = self._settle(rows, grown=bool(imported), job_id=job_id)
        if imported:
            self._adopt_context(imported)
            self._threads.adopt()
            self._note_modules()
        if self._entered:
            self.regain()
        if self._environment.added:
            self._log_variables(job_id)
        self._log_threads(job_id)
        if childless:
            self._zombies.forget()
        elif reaped := self._zombies.reap():
            logs.debug(f"reaped {reaped} children that no job has waited for")
        if not self._free.is_left():
            failed.append("descriptors (nearly all are in use)")
        return failed

    def parts(self) -> dict[str, Callable[[], object]]:
        """The checks of `leave`, by name; for measuring."""
        return {
            **{row.name: row.differs for row in self._all},
            "flushing": self._streams.flush,
            "the worker's signals": self._signals.take_back,
            "RQ's loggers": logs.repair,
            "threads": self._threads.look,
            "zombies": self._zombies.reap,
            "free descriptors": self._free.is_left,
        }

    def let_go(self) -> None:
        """In a child for one job: stop restoring, since no job follows."""
        self._taken = False

    def close(self) -> None:
        """Close descriptors, for a worker whose process goes on."""
        self._descriptors.close()
        self._directory.close()
        self._threads.close()
        self._taken = False

    # How.

    def _take(self) -> None:
        for row in self._all:
            row.take()
        self._note_modules()

    def _note_modules(self) -> None:
        self._count = len(sys.modules)

    def _imported(self) -> set[str]:
        """Modules imported since the last look, without Python's own, which set nothing."""
        grown = len(sys.modules) - self._count
        if not grown:
            return set()
        # Only the newest: reading every name would copy the memory pages that they are on.
        newest = list(itertools.islice(reversed(sys.modules), max(0, grown)))
        new = {name for name in newest if name.partition(".")[0] not in _STANDARD}
        if not new:
            self._note_modules()
        return new

    def _settle(self, rows: tuple[Row, ...], *, grown: bool, job_id: str = "") -> list[str]:
        """Restore what differs, or, when modules were imported, save it; what failed, as text."""
        self._failed = False
        if not grown:
            rows = tuple([row for row in rows if row.differs()])
            if not rows:
                return []
        failed: list[str] = []
        for row in rows:
            try:
                if grown and row.by_import:
                    row.adopt()
                elif not grown or row.differs():
                    row.restore()
            except (OSError, ValueError) as error:
                failed.append(f"{row.name} ({error})")
        if rows and not grown and job_id:
            logs.debug(f"set back after job={job_id}: {', '.join(row.name for row in rows)}")
        self._failed = bool(failed)
        return failed

    def _keep(self, variables: Iterable[contextvars.ContextVar[Any]]) -> None:
        """In the job's context: give these variables the same values in the next jobs' contexts."""
        for var in variables:
            self._context.run(var.set, var.get())
        decimal = sys.modules.get("decimal")
        if decimal is not None:
            self._context.run(decimal.setcontext, decimal.getcontext().copy())

    def _adopt_context(self, imported: Iterable[str]) -> None:
        """Keep only variables of the new modules themselves: others concern the job."""
        owned: set[contextvars.ContextVar[Any]] = set()
        for name in imported:
            space = getattr(sys.modules.get(name), "__dict__", {})
            owned.update(
                value for value in list(space.values()) if type(value) is contextvars.ContextVar
            )
        self._job_context.run(self._keep, [var for var in self._job_context if var in owned])

    def _log_variables(self, job_id: str) -> None:
        names = self._environment.added
        logs.warning(
            f"job={job_id} has added variables to the environment of its worker:"
            f" {', '.join(names)}; the jobs after it see them. Set them before the start, or"
            " where the application is loaded",
            LogEvent.JOB_NOTICE,
            job=job_id,
        )
        names.clear()

    def _log_threads(self, job_id: str) -> None:
        if names := self._threads.look():
            logs.warning(
                f"job={job_id} has left threads running in its worker: {', '.join(names)}; if"
                " each job leaves some, they add up. Join them before the job ends, start them"
                " once in after_fork, or say --max-threads",
                LogEvent.JOB_NOTICE,
                job=job_id,
            )
