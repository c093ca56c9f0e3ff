"""The nemesis: carries out a plan of faults, and starts again what has ended."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import redis
from rq.suspension import resume, suspend

from harness.proxy import Proxy
from harness.server import Server
from harness.waiting import is_late, pause
from nemesis.plan import LONGEST, Fault
from nemesis.systems import System, takes

PATIENCE = 15.0
"""Seconds that a system may take to leave after TERM; then it hangs."""

_MOST = 2  # workers more or fewer than it was started with
_LOSABLE = (b"EXEC", b"EVALSHA", b"HSET", b"HGETALL")
_REDIS = ("refuse", "freeze", "restart", "power", "read-only")  # one at a time


@dataclass
class Strike:
    """A fault that has struck, or that found nothing to strike."""

    kind: str
    at: float
    """Seconds, monotonic."""
    wall: float
    pid: int | None = None
    """What was killed."""
    skipped: bool = False
    until: float = math.inf
    """TERM: when the system had left."""


class Nemesis:
    """One plan on one system. Single-threaded: what has to follow a fault has its time."""

    def __init__(self, plan: Sequence[Fault], system: System, server: Server, proxy: Proxy) -> None:
        self._plan = plan
        self._system = system
        self._server = server
        self._proxy = proxy
        self._cure: tuple[float, Callable[[], None]] | None = None
        self._reliefs: list[tuple[float, Callable[[], None]]] = []  # of what does not exclude them
        self._told_at = 0.0  # when the root was told to leave
        self._difference = 0
        self.strikes: list[Strike] = []
        self.problems: list[str] = []
        """What no system may do: leave unasked, or not leave."""

    def run(self) -> None:
        due = time.monotonic()
        for fault in self._plan:
            due += fault.delay
            while (left := due - time.monotonic()) > 0:
                self._turn()
                pause(min(left, 0.02))
            self._strike(fault)

    def heal(self) -> None:
        """Redis answers, the system runs, and it has a worker."""
        if self._cure:
            self._cure_redis()
        self._relieve(math.inf)
        self._proxy.spare()
        while self._told_at or self._system.root.poll() is not None:
            self._turn()
            pause(0.02)
        if self._difference < 0:
            for _ in range(-self._difference):
                self._signal(signal.SIGTTIN)

    # What follows.

    def _turn(self) -> None:
        now = time.monotonic()
        if self._cure and now >= self._cure[0]:
            self._cure_redis()
        if not self._cure:  # Redis has to answer `rq resume`
            self._relieve(now)
        root = self._system.root
        if self._told_at and is_late(self._told_at, PATIENCE):
            self.problems.append(f"pid {root.pid} has not left {PATIENCE:g} s after TERM")
            root.kill()
            root.wait()
        status = root.poll()
        if status is None:
            return
        for strike in self.strikes:
            if strike.kind == "TERM" and strike.until == math.inf:
                strike.until = now
        if root.pid not in {strike.pid for strike in self.strikes}:
            if not self._told_at:
                self.problems.append(f"pid {root.pid} has left by itself with {status}")
            elif status not in self._system.ends:
                self.problems.append(f"pid {root.pid} has left with {status} after TERM")
        self._told_at, self._difference = 0.0, 0
        self._system.start()

    def _cure_redis(self) -> None:
        assert self._cure is not None
        cure, self._cure = self._cure[1], None
        cure()

    def _relieve(self, now: float) -> None:
        due = [relief for relief in self._reliefs if relief[0] <= now]
        self._reliefs = [relief for relief in self._reliefs if relief[0] > now]
        for _, relieve in due:
            relieve()

    # What strikes.

    def _strike(self, fault: Fault) -> None:
        strike = Strike(fault.kind, time.monotonic(), time.time())
        self.strikes.append(strike)
        done = fault.kind in self._system.faults
        if done:
            if fault.kind in ("worker", "fork server", "steward"):
                done = self._kill_one(strike, fault)
            elif fault.kind == "arbiter":
                self._kill(strike, self._system.root.pid)
                self._system.root.wait()
            elif fault.kind in _REDIS:
                done = self._break_redis(fault)
            elif fault.kind.isupper():
                done = self._signal(signal.Signals[f"SIG{fault.kind}"])
            else:
                done = self._disturb(fault)
        strike.skipped = not done

    def _kill_one(self, strike: Strike, fault: Fault) -> bool:
        victims = self._system.victims(fault.kind)
        if victims:
            self._kill(strike, victims[int(fault.parameter * len(victims))].pid)
        return bool(victims)

    def _kill(self, strike: Strike, pid: int) -> None:
        strike.pid, strike.at, strike.wall = pid, time.monotonic(), time.time()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def _signal(self, signum: signal.Signals) -> bool:
        """Not before it has a handler: until then, any program would end."""
        root = self._system.root  # another may be started in its place at any moment
        if not takes(root.pid, signum):
            return False
        change = {signal.SIGTTIN: 1, signal.SIGTTOU: -1}.get(signum, 0)
        if abs(self._difference + change) > _MOST:
            return False
        self._difference += change
        root.send_signal(signum)
        if signum is signal.SIGTERM and not self._told_at:
            self._told_at = time.monotonic()
        return True

    def _break_redis(self, fault: Fault) -> bool:
        if self._cure:
            return False
        server, proxy = self._server, self._proxy
        start, cure = {
            "refuse": (proxy.refuse, proxy.accept),
            "freeze": (server.freeze, server.thaw),
            "restart": (server.stop, server.start),
            "power": (server.kill, server.start),
            "read-only": (server.demote, server.promote),
        }[fault.kind]
        start()
        self._cure = time.monotonic() + LONGEST * fault.parameter, cure
        return True

    def _stop_one(self, fault: Fault) -> bool:
        """Any process of the system, its root included."""
        pids = [
            each.pid
            for kind in ("worker", "fork server", "steward")
            for each in self._system.victims(kind)
        ]
        pid = [self._system.root.pid, *pids][int(fault.parameter * (len(pids) + 1))]
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
        self._reliefs.append((self._soon(fault), partial(_continue, pid)))
        return True

    def _suspend(self, fault: Fault) -> bool:
        if self._cure:
            return False
        client = self._server.connect()
        suspend(client)
        self._reliefs.append((self._soon(fault), partial(resume, client)))
        return True

    def _soon(self, fault: Fault) -> float:
        """A moment that follows from the fault's parameter, and not from which one it struck."""
        return time.monotonic() + LONGEST * (fault.parameter * 7 % 1)

    def _disturb(self, fault: Fault) -> bool:
        match fault.kind:
            case "stop":
                return self._stop_one(fault)
            case "suspend":
                return self._suspend(fault)
            case "cut":
                self._proxy.cut()
            case "lost reply":
                self._proxy.swallow_reply(_LOSABLE[int(fault.parameter * len(_LOSABLE))])
            case "lost command":
                self._proxy.cut_before(_LOSABLE[int(fault.parameter * len(_LOSABLE))])
            case "kick":
                if self._cure:
                    return False
                client = redis.Redis(unix_socket_path=str(self._server.socket))
                client.client_kill_filter(_type="normal", skipme=True)
                client.close()
        return True


def _continue(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
