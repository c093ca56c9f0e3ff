"""What is kept over a job, in one table, and when it is looked at.

A worker runs job after job in one process; RQ forks for each. So that what one job does to the
process does not meet the next, everything in the table is looked at after each job, and set back
if it was changed. Looking costs about twenty microseconds (`tests/benchmarks/boundary`).

| what | set back by | set by an import |
|---|---|---|
| the worker's signal handlers, mask, timers * | `Signals.take_back` | no |
| standard descriptors, RQ's loggers * | a copy, or the path of the log | no |
| resource limits * | setrlimit(2); refused: a new worker | no |
| `logging.disable` * | assignment | stays |
| other signal handlers | `signal.signal` | stays, but SIGCHLD ignored |
| working directory, umask | fchdir(2), umask(2) | no |
| environment: changed or deleted | `os.environ` | stays |
| environment: added | not: stays, is told once | stays |
| `sys.stdin`, `stdout`, `stderr` | assignment; made anew if closed | stays |
| `sys.path`, warning filters, locale ... | assignment | stays |
| asyncio's event loop | one that is over: made anew, or left to be made | no |
| priority, user, group, process group | a system call; refused: a new worker | no |
| context variables, decimal's context | not: each job has a copy | stays |
| threads | not: told once, counted (`--max-threads`) | not counted |
| zombies | reaped at the second look | no |
| descriptors that are left open | not: a new worker when few are free | no |

What has a * is set back right after the job's code, since the worker needs it to write the outcome,
and like all others once more when callbacks and hooks are through.

The state that is returned to is that before the first job, and again whenever the function of a
job has been imported. What a module sets that a job imports later cannot be told from what the
job itself sets; then both stay, where the table says so.
"""

from __future__ import annotations

import contextvars
import itertools
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from resqued import logs
from resqued.logs import logger
from resqued.worker.boundary.environment import Directory, Environment
from resqued.worker.boundary.resources import Room, Threads, Zombies
from resqued.worker.boundary.streams import StandardDescriptors, Streams
from resqued.worker.boundary.values import Handlers, Row, Umask, disabled, limits, values
from resqued.worker.job.signals import OURS
from resqued.worker.signals import Signals

T = TypeVar("T")

_STANDARD: Final = sys.stdlib_module_names


class Boundary:
    """What one worker keeps over its jobs. Lives in the main thread of the worker.

    signals: the worker's own.
    """

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._environment = Environment()
        self._streams = Streams()
        self._descriptors = StandardDescriptors()
        self._directory = Directory()
        self._first: tuple[Row, ...] = (self._descriptors, limits(), disabled())
        self._rest: tuple[Row, ...] = (
            Handlers(OURS),
            self._directory,
            Umask(),
            self._environment,
            self._streams,
            *values(),
        )
        self._all = (*self._first, *self._rest)
        self._threads = Threads()
        self._zombies = Zombies()
        self._room = Room()
        self._context = contextvars.Context()
        self._count = 0
        self._taken = False
        self._entered = False  # code of the user's has run since `regain`
        self._failed = False

    @property
    def threads(self) -> int:
        """How many threads jobs have left running."""
        return self._threads.left

    # Before and in a job.

    def enter(self) -> None:
        """Before a job; the state before the first is taken here."""
        if not self._taken:
            self._taken = True
            self._context = contextvars.copy_context()
            self._take()
            self._threads.take()
            self._room.take()
        self._entered = True

    def put(self, **variables: str) -> None:
        """Set variables of the environment for the job. Raises ValueError for what cannot be."""
        self._environment.put(**variables)

    def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """Run all that belongs to one job in a context of its own."""
        self._job_context = self._context.copy()
        return self._job_context.run(self._run, call, *arguments)

    def _run(self, call: Callable[..., T], *arguments: Any) -> T:
        decimal = sys.modules.get("decimal")
        if decimal is not None:  # its context is changed in place
            decimal.setcontext(decimal.getcontext().copy())
        return call(*arguments)

    def importing(self, load: Callable[[], object]) -> None:
        """Import a job's function, in its context; what that has set is what is returned to."""
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
        """Right after code of the user's: what the worker needs to write the outcome.

        Raises nothing; what cannot be set back now is told by `leave`.
        """
        if self._taken:  # else somebody's code has the job performed, outside of `work`
            self._settle(self._first, grown=bool(self._imported()))
        logs.repair()
        self._signals.take_back()
        self._entered = False

    def use(self) -> None:
        """Code of the user's is about to run again: a callback, a hook."""
        self._entered = True

    def leave(self, job_id: str, *, childless: bool = False) -> list[str]:
        """After a job, its callbacks and hooks; what could not be set back, in words. childless: it
        has just been seen that there is no child."""
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
            self._tell_of_variables(job_id)
        self._tell_of_threads(job_id)
        if childless:
            self._zombies.forget()
        elif reaped := self._zombies.reap():
            logger.debug(f"reaped {reaped} children that jobs have left unwaited for")
        if not self._room.is_left():
            failed.append("descriptors (nearly all are in use)")
        return failed

    def parts(self) -> dict[str, Callable[[], object]]:
        """What `leave` looks at, by name; for measuring."""
        return {
            **{row.name: row.differs for row in self._all},
            "flushing": self._streams.flush,
            "the worker's signals": self._signals.take_back,
            "RQ's loggers": logs.repair,
            "threads": self._threads.look,
            "zombies": self._zombies.reap,
            "free descriptors": self._room.is_left,
        }

    def let_go(self) -> None:
        """In a child for one job: nothing is kept, since nothing comes after it."""
        self._taken = False

    def close(self) -> None:
        """Give descriptors back; for a worker whose process lives on."""
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
        """Modules that came since the last look; those of Python itself set nothing."""
        grown = len(sys.modules) - self._count
        if not grown:
            return set()
        # The newest only: a look at the name of each would have this process own a page for each.
        newest = list(itertools.islice(reversed(sys.modules), max(0, grown)))
        new = {name for name in newest if name.partition(".")[0] not in _STANDARD}
        if not new:
            self._note_modules()
        return new

    def _settle(self, rows: tuple[Row, ...], *, grown: bool, job_id: str = "") -> list[str]:
        """Set back what differs, or, when modules were imported, keep it; what failed, in words."""
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
            logger.debug(f"set back after job={job_id}: {', '.join(row.name for row in rows)}")
        self._failed = bool(failed)
        return failed

    def _keep(self, variables: Iterable[contextvars.ContextVar[Any]]) -> None:
        """In the job's context: have the next jobs see these variables as they are here."""
        for var in variables:
            self._context.run(var.set, var.get())
        decimal = sys.modules.get("decimal")
        if decimal is not None:
            self._context.run(decimal.setcontext, decimal.getcontext().copy())

    def _adopt_context(self, imported: Iterable[str]) -> None:
        """Only variables of the new modules themselves: others are about the job."""
        owned: set[contextvars.ContextVar[Any]] = set()
        for name in imported:
            space = getattr(sys.modules.get(name), "__dict__", {})
            owned.update(
                value for value in list(space.values()) if type(value) is contextvars.ContextVar
            )
        self._job_context.run(self._keep, [var for var in self._job_context if var in owned])

    def _tell_of_variables(self, job_id: str) -> None:
        names = self._environment.added
        logger.warning(
            f"job={job_id} has added variables to the environment of its worker:"
            f" {', '.join(names)}; the jobs after it see them. Set them before the start, or"
            " where the application is loaded"
        )
        names.clear()

    def _tell_of_threads(self, job_id: str) -> None:
        if names := self._threads.look():
            logger.warning(
                f"job={job_id} has left threads running in its worker: {', '.join(names)}; they"
                " add up, job by job. Join them before the job ends, start them once in"
                " after_fork, or say --max-threads"
            )
