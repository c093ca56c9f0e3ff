"""Bounds calls of code that is not resqued's own: hooks, the config file, what a check imports.

A timer (SIGALRM, every second) raises HookTimeout in a call that exceeds its limit, and again each
second. A call that swallows it is named in the log with its stack. After `SWALLOWED` of them the
process does what it has set as `resist`: the arbiter re-executes its image, a fork server ends.
In the arbiter a thread (`arbiter.call_watch`) does the same for hooks that the timer cannot reach.

Once the process is asked to stop, a call has `AT_STOP` seconds, and all of them together have
`TOGETHER`. Runs in the arbiter, in fork servers and under --check; in workers SIGALRM is RQ's.
"""

from __future__ import annotations

import signal
import time
import traceback
from _thread import allocate_lock
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final, TypeVar

from resqued import logs
from resqued.logs import LogEvent

LOOK: Final = 1.0
"""Seconds between two interruptions of a call that exceeds its limit, and between two looks at
whether a stop was asked for."""

SWALLOWED: Final = 3
"""Interruptions that a call may swallow."""

AT_STOP: Final = 2.0
"""Seconds for a call once the process is asked to stop, also for one that has begun before."""

TOGETHER: Final = 8.0
"""Seconds for all calls together once the process is asked to stop."""

BRIEF: Final = 0.1
"""Seconds of a call that do not count towards TOGETHER: a drain may take hours, with many calls."""

RECOVERED: Final = 0.1
"""Of TOGETHER, seconds that are given back in a second: a drain may take hours."""

_T = TypeVar("_T")


class HookTimeout(BaseException):
    """Raised inside a hook, or other code that is not resqued's own, which exceeds its limit.

    Not an Exception, so that little swallows it.
    """


@dataclass(eq=False)
class Call:
    """One call with a limit, in the main thread.

    what: names it in the log. limit: seconds. plugin, hook: empty if the code is not a hook.
    """

    what: str
    limit: float
    plugin: str = ""
    hook: str = ""
    began: float = field(default_factory=time.monotonic)
    raised: int = 0  # how often it was interrupted

    @property
    def over(self) -> float:
        """Seconds beyond its limit; below 0 while there is time left."""
        return time.monotonic() - self.began - self.limit


def _never() -> bool:
    return False


def _nothing() -> None:
    pass


def _restore_nothing(what: str) -> None:
    pass


class Limits:
    """The limits of this process, which has one SIGALRM and one timer.

    resist: called for a call that cannot be ended, in SIGALRM's handler or in the thread of the
    arbiter's watch; if it returns it has failed, and the call is interrupted again. None: it is
    only interrupted. is_stop_asked: whether the process is asked to stop; called in the same
    places and before each hook, so it must be quick and must not raise. restore: called after each
    hook, with what names it in the log, to undo what it has done to the process.
    """

    def __init__(self) -> None:
        self.resist: Callable[[Call], None] | None = None
        self.remedy = ""  # what resist does, for the log
        self.is_stop_asked: Callable[[], bool] = _never
        self.closed = False  # no hook is called any more: the image is about to be replaced
        self.current: Call | None = None
        self.gate = allocate_lock()  # held while a call ends, and while `resist` is called
        self.began: Callable[[], None] = _nothing  # a call begins: for the watch
        self.restore: Callable[[str], None] = _restore_nothing
        self._spent = 0.0  # seconds of calls since the stop was asked for, less what is recovered
        self._spent_at = 0.0
        self._said = False

    def begin(self) -> None:
        """Drop an alarm of the image before this one, which may have had its signal blocked."""
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def left(self) -> float | None:
        """Seconds that the next call may take because of a stop; None without a stop."""
        if not self.is_stop_asked():
            self._spent, self._said = 0.0, False
            return None
        now = time.monotonic()
        self._spent = max(0.0, self._spent - (now - self._spent_at) * RECOVERED)
        self._spent_at = now
        return min(AT_STOP, TOGETHER - self._spent)

    def spend(self, took: float) -> None:
        """Count a call that has ended."""
        if took > BRIEF and self.left() is not None:
            self._spent += took

    def say_skipped(self, hook: str) -> None:
        """Log, once, that hooks are skipped."""
        if not self._said:
            self._said = True
            logs.warning(
                f"hook {hook} and others of plugins are skipped: since the stop was asked for they"
                f" have taken {self._spent:.1f} s together, of {TOGETHER:g} s",
                LogEvent.HOOK_SLOW,
                hook=hook,
                seconds=round(self._spent, 3),
            )

    def shorten(self, call: Call) -> None:
        """A stop that comes during a call leaves it AT_STOP seconds."""
        elapsed = time.monotonic() - call.began
        if call.limit > elapsed + AT_STOP and self.is_stop_asked():
            call.limit = elapsed + AT_STOP

    def call(self, call: Call, function: Callable[..., _T], arguments: tuple[Any, ...]) -> _T:
        """Call the function within the call's limit. Raises HookTimeout, and what it raises.

        Needs the main thread, and SIGALRM for itself. A call within a call must have no limit.
        """

        def expire(signum: int, frame: FrameType | None) -> None:
            """Raise in the function, and only there: never in the lines that disarm the timer."""
            inner = frame
            while inner is not None:
                if inner.f_code is _run.__code__:
                    self._expired(call, frame)
                    return
                inner = inner.f_back

        before = signal.signal(signal.SIGALRM, expire)
        self.current = call
        self.began()
        signal.setitimer(signal.ITIMER_REAL, min(call.limit, LOOK), LOOK)
        try:
            return _run(function, arguments)
        finally:
            with self.gate:  # the watch may have started the timer again until then
                signal.setitimer(signal.ITIMER_REAL, 0.0)
                self.current = None
            signal.signal(signal.SIGALRM, signal.SIG_IGN)  # drops one that is pending
            signal.signal(signal.SIGALRM, before or signal.SIG_DFL)

    def _expired(self, call: Call, frame: FrameType | None) -> None:
        """SIGALRM has come during a call. Raises HookTimeout if its limit is over."""
        self.shorten(call)
        if call.over < 0:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, min(LOOK, -call.over)), LOOK)
            return
        if call.raised:
            then = f"; after {SWALLOWED} {self.remedy}" if self.remedy else ""
            logs.error(
                f"{call.what} has swallowed its time limit {call.raised} times, and goes on"
                f"{then}\n{stack_of(frame)}",
                LogEvent.HOOK_SLOW,
                plugin=call.plugin or None,
            )
        if call.raised >= SWALLOWED and self.resist is not None and self.gate.acquire(False):
            try:  # else the watch is about it already
                self.give_up_on(call)
            finally:
                self.gate.release()
        call.raised += 1
        raise HookTimeout(f"took longer than {call.limit:.3g} s")

    def give_up_on(self, call: Call) -> None:
        """Call `resist`, with the timer stopped: it would outlive an exec. The caller holds the
        gate."""
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        if self.resist is not None:
            self.resist(call)
        signal.setitimer(signal.ITIMER_REAL, LOOK, LOOK)


limits: Final = Limits()
"""Those of this process."""


def call_within(
    limit: float | None,
    function: Callable[..., _T],
    *arguments: Any,
    what: str = "code that is not resqued's own",
    plugin: str = "",
    hook: str = "",
) -> _T:
    """Call a function; raise HookTimeout inside it after `limit` seconds. None is no limit.

    what, plugin, hook: as for `Call`. Needs the main thread, and SIGALRM for itself. A call within
    a call must have no limit.
    """
    if limit is None:
        return function(*arguments)
    return limits.call(Call(what, limit, plugin, hook), function, arguments)


def stack_of(frame: FrameType | None) -> str:
    """The stack of a call, the innermost line last, from where the call was made."""
    frames = traceback.extract_stack(frame)
    made = [n for n, each in enumerate(frames) if each.filename == __file__ and each.name == "_run"]
    return "".join(traceback.format_list(frames[made[-1] + 1 if made else 0 :])).rstrip()


def _run(function: Callable[..., _T], arguments: tuple[Any, ...]) -> _T:
    return function(*arguments)
