"""Requests of plugins: posted from any thread, taken by the arbiter's loop, answered once."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from resqued.core.events import Asked
from resqued.core.verbs import Verb

EXITED: Final = "the arbiter has exited"


class PostedRequest:
    """A request of a plugin (`resqued.Request`). loop: the thread of the arbiter's loop."""

    def __init__(self, loop: int) -> None:
        self._loop = loop
        self._ended = threading.Event()
        self._refused: str | None = None

    def __repr__(self) -> str:
        if not self._ended.is_set():
            return "<request: open>"
        return "<request: done>" if self.done else f"<request: refused: {self._refused}>"

    @property
    def done(self) -> bool:
        return self._ended.is_set() and self._refused is None

    @property
    def refused(self) -> str | None:
        return self._refused

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it has ended, at most so many seconds; whether it is done.

        Raises RuntimeError in the arbiter's loop.
        """
        if threading.get_ident() == self._loop and not self._ended.is_set():
            raise RuntimeError(
                "a hook cannot wait for the arbiter's loop, in which it runs itself;"
                " wait in a thread (arbiter.every), or look at request.done later"
            )
        self._ended.wait(None if seconds is None else min(seconds, threading.TIMEOUT_MAX))
        return self.done

    def end(self, refused: str | None = None) -> None:
        """The first end counts. refused: why; None: it is done."""
        if not self._ended.is_set():
            self._refused = refused
            self._ended.set()


@dataclass(frozen=True)
class PostedCall:
    """A function to be called in the loop. plugin: whose it is, for the log."""

    function: Callable[[], object]
    plugin: str
    request: PostedRequest


class Inbox:
    """What plugins have asked for. Made in the thread of the loop. wake: ends the loop's wait, from
    any thread."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._loop = threading.get_ident()
        self._posted: deque[Asked | PostedCall] = deque()
        self._open: dict[int, PostedRequest] = {}
        self._tickets = itertools.count(1)
        self._closed = False

    def request(self) -> PostedRequest:
        """One that is ended by who made it."""
        return PostedRequest(self._loop)

    def post(self, verb: Verb, number: int = 0, source: str = "a plugin") -> PostedRequest:
        """Ask for a verb. source: who asks, for the log. Safe in any thread."""
        request, ticket = self.request(), next(self._tickets)
        self._open[ticket] = request
        self._add(Asked(ticket, verb, number, source))
        return request

    def call(self, function: Callable[[], object], plugin: str) -> PostedRequest:
        """Ask for a call in the loop. Safe in any thread."""
        request = self.request()
        self._add(PostedCall(function, plugin, request))
        return request

    def take(self) -> Iterator[Asked | PostedCall]:
        """Everything posted until now, and not what is posted meanwhile."""
        for _ in range(len(self._posted)):
            yield self._posted.popleft()

    def holds(self, *verbs: Verb) -> bool:
        """Whether one of these is posted and not taken yet. Safe in any thread."""
        posted = self._posted.copy()
        return any(isinstance(each, Asked) and each.verb in verbs for each in posted)

    def answer(self, ticket: int, refused: str | None) -> None:
        """End the request of a verb."""
        request = self._open.pop(ticket, None)
        if request is not None:
            request.end(refused)

    def close(self) -> None:
        """The loop has ended: refuse what is open, and all that is still to come."""
        self._closed = True
        for posted in self.take():
            if isinstance(posted, PostedCall):
                posted.request.end(EXITED)
        for ticket in list(self._open):
            self.answer(ticket, EXITED)

    def _add(self, posted: Asked | PostedCall) -> None:
        self._posted.append(posted)
        if self._closed:
            self.close()
        self._wake()
