"""Carries out the blows against one arbiter, and starts again what has ended."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence

from harness.waiting import pause
from nemesis.schedule.arbiters import Arbiter
from nemesis.schedule.plan import Blow

_TURN = 0.02  # seconds


class Striker(threading.Thread):
    """One thread for one arbiter, until `until` (monotonic). At the end the arbiter runs.

    counts: blows that have struck, by kind. problems: what no arbiter may do. paused: seconds for
    which it was stopped.
    """

    def __init__(self, arbiter: Arbiter, blows: Sequence[Blow], until: float) -> None:
        super().__init__(name="striker")
        self._arbiter = arbiter
        self._blows = blows
        self._until = until
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.paused = 0.0

    def stop(self) -> None:
        """As if the time were over."""
        self._until = 0.0
        self.join()

    def run(self) -> None:
        try:
            for blow in self._blows:
                if not self._wait(blow.delay):
                    break
                self._strike(blow)
            if not self._arbiter.running:
                self._arbiter.start()
        except AssertionError as error:
            self.problems.append(str(error))

    def _wait(self, seconds: float) -> bool:
        """Let time pass, with an eye on the arbiter; whether there is time left."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < min(end, self._until):
            assert self._arbiter.running, f"it left by itself\n{self._arbiter.starts[-1].story()}"
            pause(min(_TURN, end - now))
        return now < self._until

    def _strike(self, blow: Blow) -> None:
        match blow.kind:
            case "pause":
                self._pause(blow.lasts)
            case "HUP" | "USR2" | "TERM" | "QUIT":
                self._turn(blow.kind)
            case kind:
                if self._arbiter.kill(kind):
                    self.counts[f"kill {kind}"] += 1
                if not self._arbiter.running:
                    self._arbiter.start()

    def _pause(self, seconds: float) -> None:
        began = time.monotonic()
        self._arbiter.pause()
        try:
            while time.monotonic() < min(began + seconds, self._until):
                pause(_TURN)
        finally:
            self._arbiter.go_on()
        self.counts["pause"] += 1
        self.paused += time.monotonic() - began

    def _turn(self, name: str) -> None:
        self._arbiter.tell(name)
        self.counts[name] += 1
        if name in ("TERM", "QUIT"):
            self._arbiter.wait_until_gone()
            self._arbiter.start()
