"""Functions that plugins have called again and again, each in a daemon thread of its own."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection
from typing import Final

from resqued import logs
from resqued.arbiter.inbox import PostedRequest
from resqued.logs import LogEvent
from resqued.plugins.errors import describe, place
from resqued.printable import is_logged

SHORTEST: Final = 0.01
"""Seconds between two calls, at least."""

_here: Final = threading.local()


def plugin_here() -> str:
    """The plugin whose periodic function runs in this thread; empty in other threads."""
    return str(getattr(_here, "plugin", ""))


class Periodic:
    """Every such thread of this arbiter, with the plugin that asked for it."""

    def __init__(self) -> None:
        self._running: list[tuple[str, threading.Event]] = []

    def start(
        self, plugin: str, seconds: float, function: Callable[[], object], request: PostedRequest
    ) -> None:
        """Call `function` each `seconds`, counted from its last return, until its plugin is
        dropped. request: ended with the thread. Raises ValueError for seconds that are no positive
        number, TypeError for what cannot be called, RuntimeError if no thread can be started."""
        if not callable(function):
            raise TypeError(f"every: {function!r} is not a function")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
            raise ValueError(f"every: seconds={seconds!r} is not a positive number of seconds")
        seconds = float(min(max(seconds, SHORTEST), threading.TIMEOUT_MAX))
        ended = threading.Event()
        thread = threading.Thread(
            target=_repeat,
            args=(plugin, seconds, function, ended, request),
            name=f"{plugin}: every {seconds:g} s",
            daemon=True,
        )
        thread.start()
        self._running.append((plugin, ended))

    def end(self, plugins: Collection[str]) -> None:
        """Have the threads of these plugins end after the call that they are in."""
        for plugin, ended in self._running:
            if plugin in plugins:
                ended.set()
        self._running = [each for each in self._running if not each[1].is_set()]

    def end_all(self) -> None:
        for _, ended in self._running:
            ended.set()
        self._running.clear()


def _repeat(
    plugin: str,
    seconds: float,
    function: Callable[[], object],
    ended: threading.Event,
    request: PostedRequest,
) -> None:
    failures: Counter[str] = Counter()
    _here.plugin = plugin
    while not ended.wait(seconds):
        try:
            function()
        except BaseException as error:
            same = f"{type(error).__name__} at {place(error, function)}"
            failures[same] += 1
            if is_logged(failures[same]):
                times = f", {failures[same]} times in a row" if failures[same] > 1 else ""
                logs.error(
                    f"plugin '{plugin}': every {seconds:g} s: {describe(error)}"
                    f" ({place(error, function)}){times}",
                    LogEvent.ARBITER_NOTICE,
                )
        else:
            failures.clear()
    request.end()
