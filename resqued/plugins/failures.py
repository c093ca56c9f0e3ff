"""What hooks raise: as an exception of a hook that must succeed, or in the log, thinned."""

from __future__ import annotations

import traceback
from collections import Counter, defaultdict
from collections.abc import Callable

import pluggy

from resqued import logs
from resqued.logs import LogEvent
from resqued.plugins.errors import WrongAnswer, deed, describe, place
from resqued.printable import is_logged


class HookFailed(Exception):
    """A hook that must succeed did not. Its message names plugin, hook, file and line."""

    def __init__(self, hook: str, implementation: pluggy.HookImpl, cause: BaseException) -> None:
        plugin, where = implementation.plugin_name, place(cause, implementation.function)
        super().__init__(f"hook {hook}: plugin '{plugin}' {deed(cause)} ({where})")
        self.hook = hook
        self.plugin = plugin
        self.cause = self.__cause__ = cause


class Failures:
    """The failures of one process's hooks.

    on_failure: gets what would otherwise be logged; what it raises passes.
    """

    def __init__(self, on_failure: Callable[[HookFailed], None] | None = None) -> None:
        self._on_failure = on_failure
        # (plugin, hook) -> what it raised and where -> how often since its last success
        self._counts: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)

    def forget(self, plugin: str, hook: str) -> None:
        """The hook has succeeded."""
        if self._counts:
            self._counts.pop((plugin, hook), None)

    def log(
        self, hook: str, implementation: pluggy.HookImpl, error: BaseException, then: str
    ) -> None:
        """The first failure with its traceback, then the 10th, the 100th .. in a row. then: what
        happens instead."""
        if self._on_failure is not None:
            self._on_failure(HookFailed(hook, implementation, error))
            return
        plugin = implementation.plugin_name
        where = place(error, implementation.function)
        counts = self._counts[plugin, hook]
        same = f"{type(error).__name__} at {where}"
        counts[same] += 1
        count = counts[same]
        if count == 1:
            trace = None if isinstance(error, WrongAnswer) else _trace(error)
            logs.error(
                f"hook {hook}: plugin '{plugin}' {deed(error)} ({where}); {then}",
                LogEvent.HOOK_FAILED,
                hook=hook,
                plugin=plugin,
                exception=describe(error),
                traceback=trace,
            )
        elif is_logged(count):
            logs.error(
                f"hook {hook}: plugin '{plugin}' has now failed {count} times in a row"
                f" (same error: {describe(error)}, {where})",
                LogEvent.HOOK_FAILED,
                hook=hook,
                plugin=plugin,
                exception=describe(error),
            )


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).rstrip()
