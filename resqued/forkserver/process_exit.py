"""The orderly end of a process: the steps of the interpreter's exit, within a time limit.

An `os._exit` alone loses what libraries and the application do at exit: queued events of error
trackers, buffered logs and metrics, temporary directories, executors and their processes. The
interpreter's own exit has no time limit, and may wait for ever for a process that shares a pipe
with a child (multiprocessing's resource tracker). So the steps are done here, in the same order:
threads that are not daemons (and `concurrent.futures`), `atexit` functions (`multiprocessing` and
`weakref.finalize` are among them), streams, then what is left in the process group, `os._exit`.

An error here does not concern a job: it is logged once a generation.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import os
import signal
import sys
import threading

# Bound before the application is loaded, which may replace them (gevent): the watch over the exit
# must be a thread of the kernel.
from _thread import get_ident, start_new_thread
from collections.abc import Callable
from pathlib import PurePath
from time import monotonic, sleep
from types import FrameType, TracebackType
from typing import Any, Final, NoReturn

from resqued import logs
from resqued.forkserver.inheritance import trackers
from resqued.forkserver.notes import CRASH, Notes
from resqued.logs import LogEvent
from resqued.plugins.errors import describe, place
from resqued.scoreboard import Scoreboard
from resqued.signal_table import TABLE, InWorker

HURRY: Final = 1.0
"""Seconds for the exit of a fork server, or a recovery, when the arbiter stops now."""

FAILED: Final = 2 * HURRY
"""The same, for a fork server whose failure is why the arbiter stops."""

_LOOK: Final = 0.1  # seconds between two looks at the time limit
_STUBBORN: Final = 1.0  # seconds beyond the limit until the kernel ends the process
_LAST_MOMENTS: Final = 1.0  # seconds for what is left in the group, after SIGTERM
_STOPS: Final = (InWorker.DRAIN, InWorker.INTERRUPT, InWorker.COMMAND)
_ASKED: Final = (signal.SIGIO, *(row.signum for row in TABLE if row.worker in _STOPS))
"""Signals that ask a process to leave, or to look for orders."""


class ProcessExit:
    """One process's end.

    seconds: the limit for all steps (`--exit-timeout`); 0: none of them is run. hurried: called
    repeatedly; None, or a lower limit in seconds from now. notes: what the generation has logged.
    stacks: a descriptor for faulthandler's dumps. parent: whether it is a fork server,
    which ends what is left in its own process group; it also does so for its children.
    """

    def __init__(
        self,
        seconds: float,
        *,
        hurried: Callable[[], float | None],
        notes: Notes,
        stacks: int,
        parent: bool = False,
    ) -> None:
        self.seconds = seconds
        self.hurried = hurried
        self.notes = notes
        self._stacks = stacks
        self._parent = parent
        self._code = 0
        self._began = self._until = monotonic()
        self._main = 0
        self._joining = False

    def leave(self, code: int) -> NoReturn:
        """End the process, with this exit status, in good order. Never raises or returns.

        Runs in the main thread. Signals that ask it to leave do nothing from here on.
        """
        self._code = code & 0xFF
        try:
            for signum in _ASKED:
                signal.signal(signum, _ignore)
            flush()
            if self.seconds > 0:
                self._arm()
                self._run()
                flush()
            if self._parent:
                self._end_group()
        except BaseException as error:
            with contextlib.suppress(BaseException):
                self._log(f"its last steps raised {describe(error)} ({place(error)})")
        finally:
            os._exit(self._code)

    # The steps.

    def _run(self) -> None:
        sys.unraisablehook = self._unraisable
        sys.excepthook = self._chain(sys.excepthook)
        self._joining = True
        try:
            _end_threads()
        except BaseException as error:
            self._log(f"the end of its threads raised {describe(error)} ({place(error)})")
        self._joining = False
        atexit._run_exitfuncs()

    def _end_group(self) -> None:
        """End what is left in this process group: SIGTERM, then a short wait.

        The arbiter kills what is left after that, orphans too.
        """
        for tracker in trackers():  # ignores SIGTERM, and ends with the last copy of its pipe
            with contextlib.suppress(OSError):
                os.close(tracker._fd)
        group = os.getpid()
        if not _has_children(group):
            return
        os.killpg(group, signal.SIGTERM)
        until = monotonic() + _LAST_MOMENTS
        if self.seconds > 0:
            until = min(until, monotonic() + max(_LOOK, self._left()))
        while monotonic() < until and _has_children(group):
            sleep(0.01)

    # The time limit.

    def _left(self) -> float:
        """Seconds until the limit."""
        hurried = self.hurried()
        if hurried is not None:
            self._until = min(self._until, monotonic() + hurried)
        return self._until - monotonic()

    def _arm(self) -> None:
        self._main = get_ident()
        self._began = monotonic()
        self._until = self._began + self.seconds
        if self.notes.has(CRASH):
            faulthandler.disable()  # the same stacks have been shown
        # For what holds the interpreter, so that no other thread runs.
        late = max(_LOOK, self._left()) + _STUBBORN
        try:
            faulthandler.dump_traceback_later(late, exit=True, file=self._stacks)
            start_new_thread(self._watch, ())
        except RuntimeError:  # no thread can be started: the kernel ends the process
            faulthandler.cancel_dump_traceback_later()
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, max(_LOOK, self._left()))

    def _watch(self) -> None:
        """Enforce the limit. Runs in its own thread, since the main one may be in C code."""
        while (left := self._left()) > 0:
            sleep(min(_LOOK, left))
        try:
            seconds = monotonic() - self._began
            why = "" if self.hurried() is not None else " (--exit-timeout)"
            self._log(f"took longer than {seconds:.1f} s{why} and was cut off, {self._where()}")
        finally:
            os._exit(self._code)

    # Logging.

    def _log(self, what: str) -> None:
        if self.notes.first(what.partition(" cut off, ")[2] or what):  # seconds differ
            logs.warning(
                f"the exit of this process {what}; this is logged once a generation",
                LogEvent.FORK_SERVER_NOTICE,
            )

    def _unraisable(self, unraisable: sys.UnraisableHookArgs) -> None:
        """The unraisable hook; it gets, for example, what an atexit function raises."""
        error = unraisable.exc_value
        if error is not None:
            self._log(f"met an error: {describe(error)} ({place(error)})")

    def _chain(self, before: Callable[..., Any]) -> Callable[..., Any]:
        """An excepthook; `weakref.finalize` calls it. before: the hook so far, perhaps an error
        tracker's."""
        own = getattr(before, "__module__", "").startswith("resqued.")

        def hook(
            kind: type[BaseException], error: BaseException, trace: TracebackType | None
        ) -> None:
            self._log(f"met an error: {describe(error)} ({place(error)})")
            if not own:
                before(kind, error, trace)

        return hook

    def _where(self) -> str:
        """What the main thread does, or waits for."""
        frames = sys._current_frames()
        if self._joining:
            others = [
                f"thread '{thread.name}' ({_at(frames.get(thread.ident or 0))})"
                for thread in threading.enumerate()
                if not thread.daemon and thread.ident != self._main
            ]
            if others:
                return f"waiting for {', '.join(others)}"
        frame = innermost = frames.get(self._main)
        if innermost is not None and innermost.f_code is ProcessExit._run.__code__:
            return "in an exit function that is C code"
        while frame is not None and frame.f_back is not None:
            if frame.f_back.f_code is ProcessExit._run.__code__:
                break
            frame = frame.f_back
        if frame is innermost:
            return f"in {_at(innermost)}"
        return f"in {_at(frame)}, at {_at(innermost)}"


def until_stopped(scoreboard: int, seconds: float = HURRY) -> Callable[[], float | None]:
    """For `hurried`, in a fork server: a low limit once the arbiter stops now.

    scoreboard: its descriptor. seconds: the limit.
    """
    try:
        board = Scoreboard(scoreboard)
    except ValueError:  # of another version; the fork server serves nothing then
        return lambda: None

    def look() -> float | None:
        with contextlib.suppress(Exception):  # a write may be under way
            if board.summary.read().get("state") == "stopping":
                return seconds
        return None

    return look


def flush() -> None:
    """Flush the standard streams."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _ignore(signum: int, frame: FrameType | None) -> None:
    """Not SIG_IGN, which a program started from here would inherit."""


def _end_threads() -> None:
    """End the executors of `concurrent.futures`, and wait for all threads that are not daemons."""
    shutdown = getattr(threading, "_shutdown", None)  # the interpreter's own step, 3.11 to 3.14
    if shutdown is not None:
        shutdown()
        return
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread():
            thread.join()


def _has_children(group: int) -> bool:
    """Whether a child of this process lives in the process group; those that have ended are
    reaped."""
    try:
        while os.waitid(os.P_PGID, group, os.WEXITED | os.WNOHANG) is not None:
            pass
    except ChildProcessError:
        return False
    return True


def _at(frame: FrameType | None) -> str:
    if frame is None:
        return "C code"
    module = frame.f_globals.get("__name__", "?")
    file = PurePath(frame.f_code.co_filename).name
    return f"{module}.{frame.f_code.co_qualname}, {file}:{frame.f_lineno}"
