"""Wait for a push to the worker's queues, without popping.

A blocking pop of several queues would take an id out of Redis before any worker has claimed it, so
an idle worker lets Redis report pushes, and then takes the job by script. One push must not wake
all idle workers of a machine: of those with the same queues one, the leader, watches Redis. When it
gets a job it releases the lead, and the next worker leads.

The leader holds a lock on a byte of the scoreboard's file, one for each list of queues: every
worker of any generation has that file, a fork does not inherit the lock, and the kernel frees it
when its owner dies (fcntl(2), "Advisory record locking"). When a lock is freed, the kernel wakes
all that wait for it. So only one worker, the heir, waits for the leader's lock, and holds a second
lock meanwhile; all others sleep until a futex, the bell, is rung for one of them. It is rung by a
leader that leaves without an heir, or has led for a while without one, and by an heir that leaves.
A worker that has finished a job becomes the heir, if there is none: then few of many workers do the
work that few can do.

Where a plugin chooses the queues (`order_queues`), these are the queues that it has left: workers
with different answers do not depend on each other. When the arbiter calls, each leader notices it
on the scoreboard, and passes it on to the workers that have the same queues.

Of a queue that is at its limit in the fleet not the list is watched, but what counts as its jobs.
A paused queue is not watched at all, but both count for who leads whom, so that nobody has to
move. When one is resumed, the steward sends COMMAND to all idle workers that serve it
(`steward/wake.py`).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import random
import struct
import time
from collections.abc import Callable, Sequence
from typing import Final

from rq.suspension import WORKERS_SUSPENDED

from resqued.broker.listener import Listener, Watched
from resqued.scoreboard import Scoreboard
from resqued.worker.signals import Signals, Woken

TURN: Final = 20.0
"""Longest wait in seconds, after which the worker sends a heartbeat and looks at its queues."""

LOOK: Final = 0.5
"""Seconds between two looks where Redis does not report pushes."""

CALLED: Final = 0.1
"""Seconds within which a leader notices that the arbiter calls idle workers."""

_REST: Final = 1.5  # turns after which a worker that does not lead takes its next turn
_UNSURE: Final = 0.25  # seconds that a leader may be without an heir; a busy one returns sooner
_SURE: Final = 5.0  # seconds between two checks of the leader that there is an heir

_LOCKS_AT: Final = 1 << 40  # far behind the scoreboard's records
_HEIRS_AT: Final = 1 << 41

_LOCK: Final = struct.Struct("@hhqqi")  # struct flock, where `long` has 64 bits


class Waiter:
    """Lets one worker wait. board: a scoreboard that all workers of the machine share. realm: what
    else distinguishes queues of the same name, such as the server's URL. turn: longest wait, in
    seconds."""

    def __init__(
        self,
        signals: Signals,
        listener: Listener,
        board: Scoreboard,
        realm: str,
        turn: float = TURN,
    ) -> None:
        self._signals = signals
        self._listener = listener
        self._board = board
        self._realm = realm
        self._turn = turn
        self._held: int | None = None

    def wait(
        self,
        served: Sequence[str],
        watched: Watched,
        seconds: float = TURN,
        rest: Callable[[], bool] = bool,
        called: Callable[[], bool] | None = None,
    ) -> None:
        """Wait until a key has changed, RQ is suspended, a signal has come, or the time is over.

        served: keys of the queues; workers with the same ones have one leader. watched: returns at
        once if `Listener.watch` says that it has changed. It may be empty. rest: called at each
        turn of a worker that does not lead; whether it may go on waiting. called: whether the
        arbiter calls, which ends the wait of all workers with these queues; None: it does not.
        Raises ConnectionError when the connection that reports pushes is lost.
        """
        whole = called is None and watched.of is None and seconds >= self._turn
        seconds = min(seconds, self._turn * random.uniform(0.7, 1.0))
        until = time.monotonic() + seconds
        place = self._place(served)
        while not (leads := self._lead(place, until, called or bool)):
            if leads is None or self._signals.alert or not whole or not rest():
                return
            until = time.monotonic() + _REST * self._turn * random.uniform(0.7, 1.0)
        if watched:
            self._listener.open()
            if not self._listener.tracking:
                self._signals.sleep(min(seconds, LOOK))
                return
            if self._listener.watch(watched, WORKERS_SUSPENDED if watched.jobs else ""):
                return
            if not self._listener.tracking:  # tracking was refused
                self._signals.sleep(min(seconds, LOOK))
                return
        self._listen(place, until, called or bool)
        if called is not None and called():
            self._pass_on(place)

    def _listen(self, place: int, until: float, called: Callable[[], bool]) -> None:
        """Wait as the leader, and make sure that there is an heir."""
        sure_until = time.monotonic() + (_SURE if self._has_heir(place) else _UNSURE)
        longest = TURN if called is bool else CALLED
        while not (self._listener.pushed or self._signals.alert or called()):
            now = time.monotonic()
            if now >= until:
                break
            if now >= sure_until:
                self._look_for_an_heir(place)
                sure_until = now + _SURE
            pause = min(min(until, sure_until) - now, longest)
            self._signals.wait(pause, self._listener.descriptors)
            self._listener.read()

    def _pass_on(self, place: int) -> None:
        """End the wait of all workers with these queues: the heir gets the lock, the others are
        rung for."""
        self.release()
        bell = self._board.bell(place)
        if bell is not None:
            with contextlib.suppress(OSError):
                bell.ring_all()

    def release(self) -> None:
        """Give up the lead, if this worker has it."""
        if self._held is not None:
            held, self._held = self._held, None
            self._unlock(held, _LOCKS_AT)
            self._look_for_an_heir(held)

    # Becoming the leader.

    def _lead(self, place: int, until: float, called: Callable[[], bool]) -> bool | None:
        """Become the leader. False: time is over, or there is other work. None: no locks."""
        if self._held == place:
            return True
        self.release()
        bell = self._board.bell(place)
        woken = False
        try:
            while (left := until - time.monotonic()) > 0:
                if self._signals.alert or called():
                    break
                rung = bell.rung if bell is not None else 0
                if self._lock(place, _LOCKS_AT):
                    self._held, woken = place, False
                    return True
                if bell is None:
                    return self._wait_for(place, left)
                if self._lock(place, _HEIRS_AT):
                    woken = False
                    return self._inherit(place, left)
                woken = bell.sleep(rung, left)
            return False
        except OSError:  # a job closed the descriptor, or locks do not work
            self._held, woken = None, False
            self._signals.sleep(min(max(0.0, until - time.monotonic()), LOOK))
            return None
        finally:
            if woken:  # woken and leaving: wake another instead
                self._look_for_an_heir(place)

    def _inherit(self, place: int, seconds: float) -> bool:
        """Wait as the heir. If it does not become the leader, another heir is woken."""
        leads = False
        try:
            leads = self._wait_for(place, seconds)
        finally:
            self._unlock(place, _HEIRS_AT)
            if not leads:
                self._look_for_an_heir(place)
        return leads

    def _wait_for(self, place: int, seconds: float) -> bool:
        """Wait for the leader's lock."""
        # From here on this worker may hold the lock without noticing: a signal handler can raise
        # between the system call and its return.
        self._held = place
        try:
            self._signals.alarm_in(seconds)
            self._signals.undisturbed(
                lambda: fcntl.lockf(self._board.fd, fcntl.LOCK_EX, 1, _LOCKS_AT + place)
            )
        except Woken:
            self._held = None
            self._unlock(place, _LOCKS_AT)
            return False
        except OSError:
            self._held = None
            raise
        finally:
            self._signals.disarm()
        return True

    # The locks, and the bell.

    def _lock(self, place: int, which: int) -> bool:
        """Take a lock; whether it was free. Raises OSError where there are no locks."""
        try:
            fcntl.lockf(self._board.fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, which + place)
        except (BlockingIOError, PermissionError):  # EAGAIN, or EACCES in its place
            return False
        return True

    def _unlock(self, place: int, which: int) -> None:
        with contextlib.suppress(OSError):
            fcntl.lockf(self._board.fd, fcntl.LOCK_UN, 1, which + place)

    def _has_heir(self, place: int) -> bool:
        asked = _LOCK.pack(fcntl.F_WRLCK, 0, _HEIRS_AT + place, 1, 0)
        try:
            found = fcntl.fcntl(self._board.fd, fcntl.F_GETLK, asked)
        except OSError:
            return False
        kind, *_ = _LOCK.unpack(found)
        return bool(kind != fcntl.F_UNLCK)

    def _look_for_an_heir(self, place: int) -> None:
        """Wake one of the sleeping workers, if none waits for the leader's lock."""
        bell = self._board.bell(place)
        if bell is None:
            return
        with contextlib.suppress(OSError):
            bell.change()  # before the check, so that a worker going to sleep now notices it
            if not self._has_heir(place):
                bell.ring()

    def _place(self, keys: Sequence[str]) -> int:
        name = "\0".join((self._realm, *sorted(keys))).encode()
        return int.from_bytes(hashlib.blake2b(name, digest_size=5).digest())
