"""The signal handlers of a worker: they only record, except in three places where they raise.

In `interruptible`, where job code runs, every cut is raised; in `commandable`, where a job's
callbacks run, only a cut that a command asks for; in `undisturbed`, where an idle worker waits for
a lock, any signal raises. Whether the handler has interrupted one of these is read from the stack,
not from a flag: a flag would have to be cleared, and a signal that arrives just before that would
raise while an outcome is being written.
"""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import time
import weakref
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, TypeVar, assert_never

from resqued import greenlets, logs, signal_stack
from resqued.mailbox import WakeupPipe
from resqued.signal_table import DUMP, TABLE, InWorker
from resqued.signals import handler_of
from resqued.worker.job.interruptions import STRENGTH, Interrupted
from resqued.worker.job.signals import HANDLED, restore_defaults

T = TypeVar("T")

Handler = Callable[[int, FrameType | None], None] | signal.Handlers


class Woken(BaseException):
    """Raised in `undisturbed` when the loop has something to do, or the time is over."""


class Signals:
    """What signals have asked of a worker. Used in the main thread. dumps: descriptor for
    faulthandler's stacks; None leaves faulthandler alone. again_is_now: a second TERM or INT, a
    second later, interrupts the job; for a worker without an arbiter, at a terminal."""

    def __init__(self, dumps: int | None = None, *, again_is_now: bool = False) -> None:
        self.draining = False
        self.now = False
        self.now_since = 0.0
        """When it was first asked to stop now: seconds on the monotonic clock."""
        self.reopened = False
        self.alert = False
        """Something has changed since the loop last looked; cleared before it looks."""
        self.cut: type[Interrupted] | None = None
        """What was raised in the job in hand; set just before it is raised. See `decision`."""
        self.on_command: Callable[[], type[Interrupted] | None] = lambda: None
        """Reads commands, in the handler; the cut of the job in hand that they ask for."""
        self.on_cut: Callable[[type[Interrupted]], None] = lambda kind: None
        """Called in the handler, before a cut is raised."""
        self.on_drain: Callable[[], None] = lambda: None
        """Called in the handler, once."""
        self.on_now: Callable[[], None] = lambda: None
        """Called in the handler."""
        self._wanted: type[Interrupted] | None = None
        self._dumps = dumps
        self._again_is_now = again_is_now
        self._asked = 0.0
        self._pid = os.getpid()
        self._pipe = WakeupPipe()
        self.installed = False
        """Whether the worker's handlers are installed in this process."""
        self._on_alarm = self._alarm
        self._handlers: dict[int, Handler] = {
            **{row.signum: self._handler_for(row.worker) for row in TABLE if row.signum in HANDLED},
            signal.SIGIO: self._command,  # in place of COMMAND, if too many are queued
            signal.SIGPIPE: signal.SIG_IGN,  # writing to a closed connection then raises
        }
        self._mask: set[int] = set()
        self._before: dict[int, Any] = {}  # handlers, as the process had them
        self._wakeup_before = -1

    def _handler_for(self, effect: InWorker) -> Handler:
        match effect:
            case InWorker.DRAIN:
                return self._drain
            case InWorker.INTERRUPT:
                return self._interrupt
            case InWorker.COMMAND:
                return self._command
            case InWorker.REOPEN:
                return self._reopen
            case InWorker.IGNORE | InWorker.DUMP | InWorker.DEFAULT:
                return self._nothing
            case _:
                assert_never(effect)

    def _take_over(self) -> None:
        """Save the process's handlers, and register for its forks."""
        self.installed = True
        self._before = {
            signum: signal.getsignal(signum)
            for signum in (*HANDLED, signal.SIGALRM, signal.SIGPIPE)
        }
        self._wakeup_before = signal.set_wakeup_fd(-1)
        # Children of jobs (multiprocessing) must die of a TERM as usual, also of one that comes
        # at once: it is blocked over the fork, until the worker's handlers are removed.
        this = weakref.ref(self)  # the process keeps these functions for ever
        os.register_at_fork(
            before=lambda: _if_installed(this, Signals._hold),
            after_in_parent=lambda: _if_installed(this, Signals._let_go),
            after_in_child=lambda: _if_installed(this, Signals._be_a_child),
        )

    def _hold(self) -> None:
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)

    def _let_go(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _be_a_child(self) -> None:
        restore_defaults()
        self._let_go()

    @property
    def intact(self) -> bool:
        """Whether the pipe's descriptors are still the worker's. A job may have closed them."""
        return not self.installed or self._pipe.intact

    def take_over(self) -> None:
        """Set every handler, the wakeup descriptor and an empty mask. Until `close`."""
        if not self.installed:
            self._take_over()
            self._pipe.make()
        self.install()
        if self._dumps is not None:
            signal_stack.widen()

    def install(self) -> None:
        """Do it again, after code of the user's that may have changed any of them. Does nothing
        before `take_over`: user code may use a worker without an arbiter outside of `work`."""
        if not self.installed:
            return
        if not self.intact:
            self._pipe.make()
        self.take_back()

    def take_back(self) -> None:
        """The same but for the pipe; after each job."""
        if not self.installed:
            return
        signal.set_wakeup_fd(self._pipe.write, warn_on_full_buffer=False)
        if list(map(handler_of, self._handlers)) != list(self._handlers.values()):
            for signum, handler in self._handlers.items():
                signal.signal(signum, handler)
        self.disarm()
        for timer in (signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
            signal.setitimer(timer, 0)
        if self._dumps is not None:
            faulthandler.enable(self._dumps)
        self.register_dump()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def register_dump(self, *, in_child: bool = False) -> None:
        """Have DUMP write the stacks of all threads. in_child: for a job; its signals were reset,
        which faulthandler does not know."""
        if self._dumps is not None:
            if in_child:
                faulthandler.unregister(DUMP)
            faulthandler.register(DUMP, self._dumps, all_threads=True, chain=False)

    def let_go(self) -> None:
        """In a child for a job: close the worker's pipe, and drop what was asked of it."""
        self._pipe.close()
        self.cut = self._wanted = None

    def alarm_in(self, seconds: float) -> None:
        """Have SIGALRM end `undisturbed`. Only while no job is in hand: then RQ uses SIGALRM."""
        signal.signal(signal.SIGALRM, self._on_alarm)
        signal.setitimer(signal.ITIMER_REAL, max(0.01, seconds))

    def disarm(self) -> None:
        """Stop SIGALRM: RQ's, the job's own, and that of a stop."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        if handler_of(signal.SIGALRM) != self._on_alarm:
            signal.signal(signal.SIGALRM, self._on_alarm)

    def forget(self) -> None:
        """Before a job: drop what was asked of the last one."""
        self.cut = None
        self._wanted = Interrupted if self.now else None

    def interruptible(self, call: Callable[[], T]) -> T:
        """Run job code. Only here does a cut raise; one that came before raises at once."""
        if self._wanted is not None:
            self._raise(self._wanted)
        return call()

    def commandable(self, call: Callable[[], T]) -> T:
        """Run a callback of a job whose own code has ended. Only Stopped and Killed raise here: for
        an interruption it is too late, since the job has its result."""
        if self._wanted not in (None, Interrupted):
            self._raise(self._wanted)
        return call()

    @property
    def wanted(self) -> type[Interrupted] | None:
        """The cut that is asked for, for a job that runs in a child."""
        return self._wanted

    @property
    def decision(self) -> type[Interrupted] | None:
        """What the job in hand was cut by: the strongest cut asked for, if any was raised."""
        if self.cut is None or self._wanted is None:
            return self.cut
        return max(self.cut, self._wanted, key=STRENGTH.index)

    def undisturbed(self, call: Callable[[], object]) -> None:
        """Run a call that blocks. Raises Woken on an alert, before or during it, and on SIGALRM."""
        if self.alert:
            raise Woken
        call()

    def wait(self, seconds: float, also: Sequence[int] = ()) -> None:
        """Sleep until a signal arrives, or has arrived since the last wait. also: descriptors that
        end the wait when they are readable."""
        poll = select.poll()
        own = (self._pipe.read,) if self.installed else ()
        for fd in (*own, *also):
            poll.register(fd, select.POLLIN)
        poll.poll(max(0.0, seconds) * 1000)
        if own:
            self._pipe.drain()

    def sleep(self, seconds: float) -> None:
        """Sleep, but return on an alert."""
        until = time.monotonic() + seconds
        while not self.alert and (left := until - time.monotonic()) > 0:
            self.wait(left)

    def want(self, kind: type[Interrupted], frame: FrameType | None) -> None:
        """Cut the job in hand: now if its code is running, else as soon as it begins."""
        kind = self._wanted = max(kind, self._wanted or Interrupted, key=STRENGTH.index)
        for place in (frame, greenlets.main_frame()):
            if greenlets.is_below(Signals.interruptible.__code__, place) or (
                kind is not Interrupted and greenlets.is_below(Signals.commandable.__code__, place)
            ):
                self._raise(kind)

    def _raise(self, kind: type[Interrupted]) -> None:
        self.cut = kind
        self.on_cut(kind)
        raise kind

    def _wake(self, frame: FrameType | None) -> None:
        if greenlets.is_below(Signals.undisturbed.__code__, frame):
            raise Woken

    def _nothing(self, signum: int, frame: FrameType | None) -> None:
        """A handler instead of SIG_IGN, since a handler is not inherited over exec. Containers send
        HUP and others to every process."""

    def _alarm(self, signum: int, frame: FrameType | None) -> None:
        self._wake(frame)

    def _drain(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a child of a job, right after its fork
            restore_defaults()
            os.kill(os.getpid(), signum)
            return
        if self._again_is_now and self.draining and time.monotonic() > self._asked + 1:
            self._interrupt(signum, frame)
        first, self.draining, self.alert = not self.draining, True, True
        if first:
            self._asked = time.monotonic()
            self.on_drain()
        self._wake(frame)

    def _interrupt(self, signum: int, frame: FrameType | None) -> None:
        self.now = self.draining = self.alert = True
        self.now_since = self.now_since or time.monotonic()
        self.on_now()
        self.want(Interrupted, frame)
        self._wake(frame)

    def _reopen(self, signum: int, frame: FrameType | None) -> None:
        logs.reopen()
        self.reopened = self.alert = True
        self._wake(frame)

    def _command(self, signum: int, frame: FrameType | None) -> None:
        kind = self.on_command()
        if kind is not None:
            self.want(kind, frame)
        self.alert = True  # it may also mean that there is a job
        self._wake(frame)

    def close(self) -> None:
        """Restore the process's handlers and descriptors, for a worker whose process goes on."""
        if not self.installed:
            return
        self.installed = False
        signal.set_wakeup_fd(self._wakeup_before)
        for signum, handler in self._before.items():
            if handler is not None:  # None: it was not set by Python
                signal.signal(signum, handler)
        self._pipe.close()


def _if_installed(this: weakref.ref[Signals], act: Callable[[Signals], None]) -> None:
    signals = this()
    if signals is not None and signals.installed:
        act(signals)
