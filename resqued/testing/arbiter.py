"""A stand-in for the arbiter: facts that a test sets, verbs that are only recorded."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resqued.config import Config
from resqued.snapshots import LoopFacts, QueueCounts, QueueFacts, RedisFacts, ScheduleFacts, Worker

if TYPE_CHECKING:
    from resqued.protocols import Arbiter, Request

ENDLESS = 10.0
"""Seconds after which a wait without a limit is an error of the test."""

_here = threading.local()


@contextlib.contextmanager
def in_the_loop() -> Iterator[None]:
    """While this lasts, this thread counts as the arbiter's loop, which must not wait."""
    before, _here.is_loop = getattr(_here, "is_loop", False), True
    try:
        yield
    finally:
        _here.is_loop = before


class FakeRequest:
    """What a verb of `FakeArbiter` returns: open, until the test completes or refuses it."""

    def __init__(self, verb: tuple[Any, ...]) -> None:
        self.verb = verb
        self._ended = threading.Event()
        self._done = False
        self._refused: str | None = None

    @property
    def done(self) -> bool:
        """The test has completed it."""
        return self._done

    @property
    def refused(self) -> str | None:
        """The reason for which the test has refused it."""
        return self._refused

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the test ends it, at most so long; return `done`.

        RuntimeError in a hook of the arbiter, as there; and without `seconds` when nobody has
        ended it after ENDLESS seconds, where the arbiter's would wait for ever.
        """
        if getattr(_here, "is_loop", False):
            raise RuntimeError(f"{self!r} is waited for in the arbiter's loop, where it cannot end")
        if not self._ended.wait(ENDLESS if seconds is None else seconds) and seconds is None:
            raise RuntimeError(
                f"{self!r} has not ended in {ENDLESS:g} s; call its complete() or refuse() in the"
                " test, from another thread or before"
            )
        return self._done

    def complete(self) -> None:
        """What was asked for has come about. RuntimeError if it has ended before."""
        self._end()
        self._done = True
        self._ended.set()

    def refuse(self, reason: str) -> None:
        """It will not come about. RuntimeError if it has ended before."""
        self._end()
        self._refused = reason
        self._ended.set()

    def _end(self) -> None:
        if self._ended.is_set():
            raise RuntimeError(f"{self!r} has ended already")

    def __repr__(self) -> str:
        state = "done" if self._done else f"refused: {self._refused}" if self._refused else "open"
        name, *arguments = self.verb
        return f"<{name}({', '.join(map(repr, arguments))}), {state}>"


@dataclass
class FakeTimer:
    """What `every` was asked for."""

    seconds: float
    function: Callable[[], object]
    request: FakeRequest
    due: float
    """By the clock of `FakeArbiter.advance`, which begins at 0."""


class FakeArbiter:
    """An arbiter for the hooks of a plugin under test. It runs nothing.

    Facts are attributes; a test may assign to them. Each verb is added to `verbs`, as a tuple of
    its name and arguments, and its request to `requests`; the test ends a request with `complete()`
    or `refuse(reason)`. Functions given to `call_soon` wait in `soon` for `run_soon()`; those given
    to `every` are in `timers`, and run in `advance(seconds)`.
    """

    def __init__(
        self,
        *,
        config: Config | None = None,
        pid: int = 3000,
        generation: int = 1,
        state: str = "running",
        reloading: bool = False,
        wished: int | None = None,
        workers: Sequence[Worker] = (),
        queues: Mapping[str, QueueFacts] | None = None,
        counts: Mapping[str, QueueCounts] | None = None,
        redis: RedisFacts | None = None,
        schedule: ScheduleFacts | None = None,
        loop: LoopFacts | None = None,
    ) -> None:
        """wished: as many as there are workers, if left out, or else as many as configured. loop:
        one that has just turned, if left out."""
        self.config = Config() if config is None else config
        self.pid = pid
        self.generation = generation
        self.state = state
        self.reloading = reloading
        self.wished = (len(workers) or self.config.workers) if wished is None else wished
        self.workers: Sequence[Worker] = tuple(workers)
        self.queues: Mapping[str, QueueFacts] = {} if queues is None else queues
        self.counts: Mapping[str, QueueCounts] = {} if counts is None else counts
        self.redis = redis
        self.schedule = schedule
        self.loop = LoopFacts(time.monotonic(), 0.0) if loop is None else loop
        self.verbs: list[tuple[Any, ...]] = []
        self.requests: list[FakeRequest] = []
        self.soon: list[tuple[Callable[[], object], FakeRequest]] = []
        self.timers: list[FakeTimer] = []
        self._clock = 0.0

    def reload(self) -> Request:
        """Recorded as `("reload",)`."""
        return self._record("reload")

    def reexec(self) -> Request:
        """Recorded as `("reexec",)`."""
        return self._record("reexec")

    def scale(self, count: int) -> Request:
        """Recorded as `("scale", count)`."""
        return self._record("scale", _number("scale", count))

    def drain(self) -> Request:
        """Recorded as `("drain",)`."""
        return self._record("drain")

    def stop(self) -> Request:
        """Recorded as `("stop",)`."""
        return self._record("stop")

    def rest(self) -> Request:
        """Recorded as `("rest",)`."""
        return self._record("rest")

    def resume(self) -> Request:
        """Recorded as `("resume",)`."""
        return self._record("resume")

    def recycle(self, number: int) -> Request:
        """Recorded as `("recycle", number)`."""
        return self._record("recycle", _number("recycle", number))

    def replan(self) -> Request:
        """Recorded as `("replan",)`."""
        return self._record("replan")

    def look_again(self) -> Request:
        """Recorded as `("look_again",)`."""
        return self._record("look_again")

    def reopen_logs(self) -> Request:
        """Recorded as `("reopen_logs",)`."""
        return self._record("reopen_logs")

    def call_soon(self, function: Callable[[], object]) -> Request:
        """Kept in `soon` until `run_soon()`."""
        _check_function("call_soon", function)
        request = FakeRequest(("call_soon", function))
        self.soon.append((function, request))
        return request

    def every(self, seconds: float, function: Callable[[], object]) -> Request:
        """Kept in `timers`; runs in `advance()`."""
        _check_function("every", function)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
            raise ValueError(f"every: seconds={seconds!r} is not a positive number of seconds")
        request = FakeRequest(("every", seconds, function))
        self.timers.append(FakeTimer(seconds, function, request, self._clock + seconds))
        return request

    def run_soon(self) -> None:
        """Call what `call_soon` was given, oldest first, and complete its requests.

        What a function raises refuses its request, and is raised here, where resqued would log it.
        """
        while self.soon:
            function, request = self.soon.pop(0)
            try:
                with in_the_loop():
                    function()
            except Exception as error:
                request.refuse(f"{type(error).__name__}: {error}")
                raise
            request.complete()

    def advance(self, seconds: float) -> None:
        """Let time pass for `every`: each function is called as often as it is due, in order.

        Time passes only here, and calls take none. What a function raises is raised here, where
        resqued would log it and go on.
        """
        end = self._clock + seconds
        while due := [timer for timer in self.timers if timer.due <= end]:
            timer = min(due, key=lambda timer: timer.due)
            self._clock = max(self._clock, timer.due)
            timer.due += timer.seconds
            timer.function()
        self._clock = end

    def drop(self) -> None:
        """End all timers, as when a reload drops the plugin: their requests are done."""
        while self.timers:
            self.timers.pop().request.complete()

    def _record(self, *verb: Any) -> FakeRequest:
        request = FakeRequest(verb)
        self.requests.append(request)
        self.verbs.append(verb)
        return request


def _number(verb: str, value: int) -> int:
    """Raises TypeError, as the arbiter does."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{verb}: {value!r} is not a whole number")
    return value


def _check_function(verb: str, function: Callable[[], object]) -> None:
    """Raises TypeError, as the arbiter does."""
    if not callable(function):
        raise TypeError(f"{verb}: {function!r} is not a function")


if TYPE_CHECKING:

    def _is_an_arbiter(fake: FakeArbiter) -> Arbiter:
        return fake
