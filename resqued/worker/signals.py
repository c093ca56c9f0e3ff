"""Signals of a worker: handlers record, and raise in exactly three places.

Inside `interruptible`, where job code runs, any cut is raised; inside `commandable`, where the
callbacks of a job run, only one that a command asks for; inside `undisturbed`, where an idle worker
waits for its turn, any signal is. Whether a handler has met one of them is read
off the stack, not off a flag: a flag would have to be cleared, and the signal that arrives
just before it is cleared would raise in the middle of the writing of an outcome.
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
from typing import Any, TypeVar

from resqued import greenlets, logs, signal_stack
from resqued.signals import COMMAND, DUMP, NOW, WakeupPipe, handler_of
from resqued.worker.job.interruptions import STRENGTH, Interrupted
from resqued.worker.job.signals import DRAIN, HANDLED, IGNORED, be_like_any_program

T = TypeVar("T")

Handler = Callable[[int, FrameType | None], None] | signal.Handlers


class Woken(BaseException):
    """Raised in `undisturbed` when there is something for the loop to look at, or time is over."""


class Signals:
    """What a worker has been told by signals. Lives in the main thread.

    dumps: where faulthandler writes stacks; None leaves faulthandler alone.
    again_is_now: a second TERM or INT, a second later, interrupts the job. For a worker without
    an arbiter, whose user sits at a terminal.
    """

    def __init__(self, dumps: int | None = None, *, again_is_now: bool = False) -> None:
        self.draining = False
        self.now = False
        self.told_now = 0.0
        """When it was first told so: seconds on the monotonic clock."""
        self.reopened = False
        self.alert = False
        """Something has changed since the loop last looked; it clears this before it looks."""
        self.cut: type[Interrupted] | None = None
        """What was raised in the job in hand; set just before it is raised. See `decision`."""
        self.on_command: Callable[[], type[Interrupted] | None] = lambda: None
        """Reads commands, in the handler; says whether the job in hand has to be cut."""
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
        """The process's signals are ours."""
        self._on_alarm = self._alarm
        self._handlers: dict[int, Handler] = {
            **dict.fromkeys(IGNORED, self._nothing),
            **dict.fromkeys(DRAIN, self._drain),
            signal.SIGUSR1: self._reopen,
            NOW: self._interrupt,
            COMMAND: self._command,
            signal.SIGIO: self._command,  # instead of COMMAND when too many are queued
            signal.SIGPIPE: signal.SIG_IGN,  # a peer that is gone is an error, not our end
        }
        self._mask: set[int] = set()
        self._before: dict[int, Any] = {}  # handlers, as the process had them
        self._wakeup_before = -1

    def _take_over(self) -> None:
        """Note what the process had, and be told of its forks."""
        self.installed = True
        self._before = {
            signum: signal.getsignal(signum)
            for signum in (*HANDLED, signal.SIGALRM, signal.SIGPIPE)
        }
        self._wakeup_before = signal.set_wakeup_fd(-1)
        # Children of jobs (multiprocessing!) must die of a TERM as those of any program do. Also
        # of one that comes at once: held over the fork, it does not meet our handlers there.
        us = weakref.ref(self)  # the process keeps these for ever
        os.register_at_fork(
            before=lambda: _if_installed(us, Signals._hold),
            after_in_parent=lambda: _if_installed(us, Signals._let_go),
            after_in_child=lambda: _if_installed(us, Signals._be_a_child),
        )

    def _hold(self) -> None:
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)

    def _let_go(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _be_a_child(self) -> None:
        be_like_any_program()
        self._let_go()

    @property
    def intact(self) -> bool:
        """Whether our descriptors are still ours. A job may have closed all that there are."""
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
        """The same again, after a job, whose code may have changed any of them.

        Does nothing in a process that is not ours: where a worker without an arbiter is used by
        somebody's code, outside of `work`.
        """
        if not self.installed:
            return
        if not self.intact:
            self._pipe.make()
        self.take_back()

    def take_back(self) -> None:
        """The same after each job, whose code may have changed any of them but the pipe."""
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

    def register_dump(self) -> None:
        """Have DUMP show the stacks, as in a worker; in a child for a job."""
        if self._dumps is not None:
            faulthandler.register(DUMP, self._dumps, all_threads=True, chain=False)

    def let_go(self) -> None:
        """In a child for a job: the pipe is the worker's, and so is what was asked of that."""
        self._pipe.close()
        self.cut = self._wanted = None

    def alarm_in(self, seconds: float) -> None:
        """Have SIGALRM end `undisturbed`. Only while no job is in hand: there it belongs to RQ."""
        signal.signal(signal.SIGALRM, self._on_alarm)
        signal.setitimer(signal.ITIMER_REAL, max(0.01, seconds))

    def disarm(self) -> None:
        """No SIGALRM from here on: neither RQ's, nor the job's own, nor that of a stop."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        if handler_of(signal.SIGALRM) != self._on_alarm:
            signal.signal(signal.SIGALRM, self._on_alarm)

    def forget(self) -> None:
        """Before a job: what was asked of the last one is not meant for it."""
        self.cut = None
        self._wanted = Interrupted if self.now else None

    def interruptible(self, call: Callable[[], T]) -> T:
        """Run job code. Here, and only here, a cut raises; one that waited does at once."""
        if self._wanted is not None:
            self._raise(self._wanted)
        return call()

    def commandable(self, call: Callable[[], T]) -> T:
        """Run a callback of a job whose own code is over. Only Stopped and Killed raise here: an
        interruption waits, since the job has its result."""
        if self._wanted not in (None, Interrupted):
            self._raise(self._wanted)
        return call()

    @property
    def wanted(self) -> type[Interrupted] | None:
        """By what the job in hand is to be cut, which runs in a child."""
        return self._wanted

    @property
    def decision(self) -> type[Interrupted] | None:
        """What the job in hand was cut by: the strongest that was wanted, if any was raised."""
        if self.cut is None or self._wanted is None:
            return self.cut
        return max(self.cut, self._wanted, key=STRENGTH.index)

    def undisturbed(self, call: Callable[[], object]) -> None:
        """Run a call that blocks. Raises Woken on an alert, before or during it, and on SIGALRM."""
        if self.alert:
            raise Woken
        call()

    def wait(self, seconds: float, also: Sequence[int] = ()) -> None:
        """Sleep until any signal arrives, or has arrived since the last wait.

        also: descriptors whose readability ends it too.
        """
        poll = select.poll()
        ours = (self._pipe.read,) if self.installed else ()
        for fd in (*ours, *also):
            poll.register(fd, select.POLLIN)
        poll.poll(max(0.0, seconds) * 1000)
        if ours:
            self._pipe.drain()

    def sleep(self, seconds: float) -> None:
        """Sleep, but not over an alert."""
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
        """Containers send HUP and the like to every process; a handler does not outlive exec."""

    def _alarm(self, signum: int, frame: FrameType | None) -> None:
        self._wake(frame)

    def _drain(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a child of a job, sent this in its very first instant
            be_like_any_program()
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
        self.told_now = self.told_now or time.monotonic()
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
        self.alert = True  # it may also mean: there is a job
        self._wake(frame)

    def close(self) -> None:
        """Give back the descriptors and the handlers; for a worker whose process lives on."""
        if not self.installed:
            return
        self.installed = False
        signal.set_wakeup_fd(self._wakeup_before)
        for signum, handler in self._before.items():
            if handler is not None:  # None: it was not set by Python
                signal.signal(signum, handler)
        self._pipe.close()


def _if_installed(us: weakref.ref[Signals], act: Callable[[Signals], None]) -> None:
    signals = us()
    if signals is not None and signals.installed:
        act(signals)
