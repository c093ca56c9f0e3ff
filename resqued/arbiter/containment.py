"""What the arbiter does against hooks that do not end, or that spoil its process.

A hook is interrupted at its time limit (`plugins.limits`). One that cannot be ended takes the image
with it: the arbiter execs itself again, as for USR2 but without a check, and the new image does not
call that plugin's hooks. All that the old image had still to do is done before, without hooks. A
stop that has been asked for goes along.

After each hook, handlers and signal mask are restored; in each whole turn of the loop what else a
plugin, or a thread of one, may have changed. Runs in the arbiter.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Final

from resqued import logs
from resqued.arbiter.call_watch import CallWatch
from resqued.arbiter.descriptors import Descriptors
from resqued.arbiter.effects import Effects, Finished
from resqued.arbiter.inbox import Inbox
from resqued.core.state import Mode, State
from resqued.core.verbs import Verb
from resqued.exits import ExitCode
from resqued.logs import LogEvent
from resqued.mailbox import Mailbox
from resqued.plugins import hooks, standard_descriptors
from resqued.plugins.environment import KeptEnvironment
from resqued.plugins.limits import Call, limits
from resqued.printable import is_logged
from resqued.signal_table import TABLE, InArbiter

STOPS: Final = frozenset(
    row.signum
    for row in TABLE
    if row.arbiter in (InArbiter.DRAIN, InArbiter.TERM, InArbiter.STOP_NOW)
)

FEW: Final = 64
"""Descriptors, fewer than which a plugin may not leave to the arbiter."""

AGAIN: Final = 30.0
"""Seconds until an exec that has failed is tried again. A stop ends the process at once."""


class ArbiterContainment:
    """Made once; `install` begins. directory: the working directory of the arbiter."""

    def __init__(
        self,
        state: State,
        mailbox: Mailbox,
        inbox: Inbox,
        effects: Effects,
        descriptors: Descriptors,
        leave: Callable[[int], int],
        directory: str,
    ) -> None:
        self.waiting: collections.deque[int] = collections.deque()
        """Signals that were collected and not acted on yet."""
        self.ended: int | None = None
        """The exit code, once all is over but for the last hook."""
        self._state = state
        self._mailbox = mailbox
        self._inbox = inbox
        self._effects = effects
        self._descriptors = descriptors
        self._leave = leave
        self._directory = directory
        self._environment = KeptEnvironment()
        self._most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._undone: collections.Counter[tuple[str, str]] = collections.Counter()
        self._switch = sys.getswitchinterval()

    def install(self) -> None:
        """From here on hooks are held to their limits by this."""
        signal.signal(signal.SIGALRM, _ignore)  # by default it ends the process
        limits.is_stop_asked = self.is_stop_asked
        limits.resist = self.resisted
        limits.remedy = "the arbiter's image is replaced, without this plugin's hooks"
        limits.restore = self.restore
        CallWatch(limits).start()

    def is_stop_asked(self) -> bool:
        """Whether the arbiter is leaving, or has a signal that tells it to."""
        return (
            self._state.mode.leaving
            or not STOPS.isdisjoint(self.waiting.copy())
            or self._mailbox.holds(STOPS)
            or self._inbox.holds(Verb.STOP, Verb.DRAIN)
        )

    def restore(self, who: str) -> None:
        """Restore handlers, mask, environment and standard descriptors after a hook, or after what
        a thread has done."""
        undone = standard_descriptors.restore(self._descriptors.relatives())
        undone += self._mailbox.take_back()
        self._say(who, [*undone, *self._environment.restore()])

    def check(self) -> None:
        """Look after all that the loop needs. Some ten microseconds, once in a whole turn."""
        self.restore("a plugin")
        self._descriptors.check()
        self._environment.keep()
        self._say("a plugin", self._mend())

    def _say(self, who: str, undone: list[str]) -> None:
        """Log what was undone, thinned."""
        for what in undone:
            self._undone[who, what] += 1
            count = self._undone[who, what]
            if is_logged(count):
                again = f" ({count} times by now)" if count > 1 else ""
                logs.warning(f"{who} has {what}; undone{again}", LogEvent.ARBITER_NOTICE)

    def _mend(self) -> list[str]:
        """Undo what makes the arbiter helpless; what was undone."""
        found = []
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < FEW and soft < self._most_files[0]:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (min(self._most_files[0], hard), hard))
                found.append(f"lowered the limit of descriptors to {soft}")
        try:
            os.getcwd()  # noqa: PTH109  # Path.cwd() is the same
        except OSError:
            with contextlib.suppress(OSError):
                os.chdir("/")
                os.chdir(self._directory)
            found.append("left the working directory for one that does not exist")
        if sys.getswitchinterval() > self._switch:
            sys.setswitchinterval(self._switch)
            found.append("changed the switch interval of threads")
        if not gc.isenabled():
            gc.enable()
            found.append("disabled the garbage collector")
        return found

    def resisted(self, call: Call) -> None:
        """A call cannot be ended: replace the image, or leave if there is nothing left to do.

        Returns only if the exec has failed and no stop is asked for. Runs in SIGALRM's handler or
        in the thread of `CallWatch`; no step of the core runs during a hook.
        """
        if self.ended is not None or self._state.mode is Mode.OVER:
            logs.critical(
                f"{call.what} cannot be ended; the arbiter leaves all the same",
                LogEvent.ARBITER_NOTICE,
            )
            self._end(self.ended or 0)
        logs.critical(
            f"{call.what} cannot be ended: the arbiter execs its image anew"
            + (f", which does not call the hooks of plugin '{call.plugin}'" if call.plugin else ""),
            LogEvent.ARBITER_NOTICE,
        )
        silenced = dict(hooks.silenced)
        if call.plugin:
            silenced[call.plugin] = call.hook
        limits.closed = True
        try:
            self.check()
            environ = os.environ.copy()
            reason = self._effects.replace_image(environ, list(self.waiting), silenced)
        except Finished as finished:
            self._end(finished.code)
        except Exception as error:
            logs.exception("[BUG] the image could not be replaced", LogEvent.DEFECT)
            reason = str(error)
        finally:
            limits.closed = False
        logs.critical(
            f"{reason}; {call.what} goes on, and this is tried again in {AGAIN:g} s",
            LogEvent.ARBITER_NOTICE,
        )
        if self.is_stop_asked():
            self._end(ExitCode.TRY_LATER)
        call.limit += max(0.0, call.over) + AGAIN

    def _end(self, code: int) -> None:
        """Leave at once; workers and fork servers finish what they do and follow."""
        with contextlib.suppress(Exception):
            self._leave(code)
        os._exit(code)


def _ignore(signum: int, frame: FrameType | None) -> None:
    """A handler in place of SIG_IGN, which the programs that plugins start would inherit."""
