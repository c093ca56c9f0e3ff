"""Calling hooks: every plugin on its own, bounded in time, so that none can harm its caller.

pluggy stops at the first exception and then skips the other plugins. Here each implementation
is called by itself, in pluggy's order; what it raises, SystemExit included, is logged with
plugin, hook, file and line, and the next one gets its turn.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final

import pluggy
from loguru import logger

from resqued.verdicts import ConfigError, VetoFork

LIMIT: Final = 10.0
"""Seconds that one hook call may take in the arbiter and in a fork server."""

SLOW: Final = 1.0
"""Seconds after which a call is worth a warning."""

_THINNED: Final = {10**n for n in range(12)}


class HookTimeout(BaseException):
    """Raised inside a hook that exceeded its limit; not an Exception, so few swallow it."""


class HookFailed(Exception):
    """A hook that must succeed did not. Its message names plugin, hook, file and line."""

    def __init__(self, hook: str, plugin: str, cause: BaseException) -> None:
        super().__init__(
            f"hook {hook}: plugin '{plugin}' raised {describe(cause)} ({place(cause)})"
        )
        self.hook = hook
        self.plugin = plugin
        self.cause = cause


def describe(error: BaseException) -> str:
    """`OSError: [Errno 113] No route to host`, on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def place(error: BaseException) -> str:
    """`file.py:22`, where the error was raised; the hook's own line for a timeout."""
    ours = ("resqued/hooks.py", "/signal.py")
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.endswith(ours)
    ]
    if not frames:
        return "no line"
    return f"{frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}"


class Hooks:
    """The plugins of one process, ready to be called.

    limit: seconds a call may take, None for no limit. Only a process whose SIGALRM is not
    RQ's (arbiter, fork server) may have one, and calls there come from the main thread.
    """

    def __init__(self, plugins: pluggy.PluginManager, *, limit: float | None = None) -> None:
        self.plugins = plugins
        self._limit = limit
        self._failures: Counter[tuple[str, str]] = Counter()
        self._running = False

    def tell(self, hook: str, **arguments: Any) -> None:
        """Call every plugin; what one raises is logged."""
        for implementation in self._implementations(hook):
            self._contained(hook, implementation, arguments)

    def ask(self, hook: str, **arguments: Any) -> Any:
        """The first answer that is not None; a plugin that raises has no opinion."""
        for implementation in self._implementations(hook):
            answer = self._contained(hook, implementation, arguments)
            if answer is not None:
                return answer
        return None

    def demand(self, hook: str, **arguments: Any) -> None:
        """Call every plugin until one fails.

        Raises HookFailed for whatever a plugin raises, but a ConfigError as it is.
        """
        for implementation in self._implementations(hook):
            try:
                self._call(hook, implementation, arguments)
            except ConfigError:
                raise
            except (Exception, SystemExit, HookTimeout) as error:
                raise HookFailed(hook, implementation.plugin_name, error) from error

    def before_fork(self, **arguments: Any) -> VetoFork | None:
        """Call every `before_fork`; the first veto ends it and is returned."""
        for implementation in self._implementations("before_fork"):
            try:
                self._call("before_fork", implementation, arguments)
            except VetoFork as veto:
                return veto
            except (Exception, SystemExit, HookTimeout) as error:
                self._log("before_fork", implementation.plugin_name, error)
        return None

    def perform(self, run: Callable[[], Any], **arguments: Any) -> Any:
        """Run a job inside the `perform_job` wrappers of all plugins; what it raises passes.

        Runs in the process that runs the job, inside the job's timeout, so without a limit.
        """
        for implementation in reversed(self._implementations("perform_job")):
            run = functools.partial(_around, implementation, arguments, run)
        return run()

    def _implementations(self, hook: str) -> list[pluggy.HookImpl]:
        return list(reversed(getattr(self.plugins.hook, hook).get_hookimpls()))

    def _contained(
        self, hook: str, implementation: pluggy.HookImpl, arguments: dict[str, Any]
    ) -> Any:
        key = (implementation.plugin_name, hook)
        try:
            answer = self._call(hook, implementation, arguments)
        except (Exception, SystemExit, HookTimeout) as error:
            self._log(hook, implementation.plugin_name, error)
            return None
        self._failures.pop(key, None)
        return answer

    def _call(self, hook: str, implementation: pluggy.HookImpl, arguments: dict[str, Any]) -> Any:
        began = time.monotonic()
        with self._bounded():
            answer = _invoke(implementation, arguments)
        took = time.monotonic() - began
        if took > SLOW and self._limit is not None:
            logger.warning(
                f"hook {hook}: plugin '{implementation.plugin_name}' took {took:.1f} s;"
                " nothing else runs meanwhile"
            )
        return answer

    @contextlib.contextmanager
    def _bounded(self) -> Iterator[None]:
        if self._limit is None or self._running:
            yield
            return
        before = signal.signal(signal.SIGALRM, self._expired)
        self._running = True
        # again every second: a hook may swallow the first
        signal.setitimer(signal.ITIMER_REAL, self._limit, 1.0)
        try:
            yield
        finally:
            self._running = False
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)

    def _expired(self, signum: int, frame: FrameType | None) -> None:
        if self._running:
            raise HookTimeout(f"took longer than {self._limit:g} s")

    def _log(self, hook: str, plugin: str, error: BaseException) -> None:
        key = (plugin, hook)
        self._failures[key] += 1
        count = self._failures[key]
        if count not in _THINNED:
            return
        if count > 1:
            logger.error(f"hook {hook}: plugin '{plugin}' has now failed {count} times in a row")
            return
        logger.error(
            f"hook {hook}: plugin '{plugin}' raised {describe(error)} ({place(error)}); ignored\n"
            + "".join(traceback.format_exception(error)).rstrip()
        )


def _invoke(implementation: pluggy.HookImpl, arguments: dict[str, Any]) -> Any:
    """Call one implementation with the arguments it names."""
    wanted = [arguments[name] for name in implementation.argnames]
    optional = {name: arguments[name] for name in implementation.kwargnames if name in arguments}
    return implementation.function(*wanted, **optional)


def _around(
    implementation: pluggy.HookImpl, arguments: dict[str, Any], run: Callable[[], Any]
) -> Any:
    """Run the job where a wrapper yields, and give it the result or the exception there."""
    wrapper = _invoke(implementation, arguments)
    name = implementation.plugin_name
    try:
        next(wrapper)
    except StopIteration:
        raise RuntimeError(f"perform_job of plugin '{name}' did not yield") from None
    try:
        result = run()
    except BaseException as error:
        try:
            wrapper.throw(error)
        except StopIteration as end:
            return end.value
    else:
        try:
            wrapper.send(result)
        except StopIteration as end:
            return end.value
    wrapper.close()
    raise RuntimeError(f"perform_job of plugin '{name}' yielded twice")
