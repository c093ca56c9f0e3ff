"""Calling hooks: every plugin on its own, bounded in time, so that none can harm its caller.

pluggy stops at the first exception and then skips the other plugins. Here each implementation
is called by itself, in pluggy's order; whatever it raises, SystemExit included, is logged with
plugin, hook, file and line, and the next one gets its turn.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from types import FrameType
from typing import Any, Final

import pluggy

from resqued import signals
from resqued.logs import logger
from resqued.plugins import answers
from resqued.plugins.errors import describe as describe
from resqued.plugins.errors import place as place
from resqued.verdicts import ConfigError, VetoFork

LIMIT: Final = 10.0
"""Seconds that one hook call may take in the arbiter and in a fork server."""

SLOW: Final = 1.0
"""Seconds after which a call is worth a warning; also what a hook has that was cut lately."""

LATELY: Final = 60.0
"""Seconds that a hook which was cut has less time: one that always hangs must leave the loop
time to work and to hear a TERM."""

BUILT_IN: Final = "resqued_plugins"
"""The package of the built-in plugins."""

_THINNED: Final = {10**n for n in range(12)}


class HookTimeout(BaseException):
    """Raised inside a hook that exceeded its limit; not an Exception, so few swallow it."""


class HookFailed(Exception):
    """A hook that must succeed did not. Its message names plugin, hook, file and line."""

    def __init__(self, hook: str, plugin: str, cause: BaseException, where: str) -> None:
        super().__init__(f"hook {hook}: plugin '{plugin}' raised {describe(cause)} ({where})")
        self.hook = hook
        self.plugin = plugin
        self.cause = cause


class Hooks:
    """The plugins of one process, ready to be called.

    limit: seconds a call may take, None for no limit. Only a process whose SIGALRM is not
    RQ's (arbiter, fork server) may have one, and calls there come from the main thread.
    """

    def __init__(self, plugins: pluggy.PluginManager, *, limit: float | None = None) -> None:
        self.plugins = plugins
        self._limit = limit
        self._terminal = limit is not None and any(map(os.isatty, (0, 1, 2)))
        self._running = False
        self._patience = 0.0
        self._hurried: dict[tuple[str, str], float] = {}  # (plugin, hook) -> until when
        # (plugin, hook) -> what it raised and where -> how often since its last success
        self._failures: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)

    def has(self, hook: str) -> bool:
        """Whether any plugin has this hook."""
        return bool(getattr(self.plugins.hook, hook).get_hookimpls())

    def has_foreign(self, hook: str) -> bool:
        """Whether a plugin that is not built in has this hook: its code may do anything."""
        found = getattr(self.plugins.hook, hook).get_hookimpls()
        return any(each.function.__module__.partition(".")[0] != BUILT_IN for each in found)

    def tell(self, hook: str, **arguments: Any) -> None:
        """Call every plugin; what one raises is logged."""
        for implementation in self._implementations(hook):
            self._contained(hook, implementation, arguments, "ignored")

    def tell_only(self, plugins: Collection[str], hook: str, **arguments: Any) -> None:
        """Call those of these names; what one raises is logged."""
        for implementation in self._implementations(hook, plugins):
            self._contained(hook, implementation, arguments, "ignored")

    def tell_unless_refused(self, hook: str, **arguments: Any) -> None:
        """Call every plugin; what one raises is logged, but a ConfigError passes and ends it."""
        for implementation in self._implementations(hook):
            try:
                self._call(hook, implementation, arguments)
            except ConfigError:
                raise
            except BaseException as error:
                self._log(hook, implementation, error, "ignored")

    def ask(self, hook: str, **arguments: Any) -> Any:
        """The first answer; a plugin that raises, or answers nonsense, has no opinion."""
        implementations = self._implementations(hook)
        for number, implementation in enumerate(implementations, start=1):
            try:
                answer = self._call(hook, implementation, arguments)
            except BaseException as error:
                following = [other.plugin_name for other in implementations[number : number + 1]]
                instead = f"asked '{following[0]}' instead" if following else "nobody else to ask"
                self._log(hook, implementation, error, instead)
            else:
                if answer is not None and answer is not False:
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
            except BaseException as error:
                where = place(error, implementation.function)
                raise HookFailed(hook, implementation.plugin_name, error, where) from error

    def collect(
        self, hook: str, arguments_for: Callable[[str], dict[str, Any]]
    ) -> list[tuple[str, Exception]]:
        """Call every plugin with arguments made for it by its name; return who raised what.

        A HookFailed for whatever a plugin raises, but a ConfigError as it is.
        """
        raised: list[tuple[str, Exception]] = []
        for implementation in self._implementations(hook):
            plugin = implementation.plugin_name
            try:
                self._call(hook, implementation, arguments_for(plugin))
            except ConfigError as error:
                raised.append((plugin, error))
            except KeyboardInterrupt:
                raise  # the user's, at a start
            except BaseException as error:
                where = place(error, implementation.function)
                raised.append((plugin, HookFailed(hook, plugin, error, where)))
        return raised

    def before_fork(self, **arguments: Any) -> VetoFork | None:
        """Call every `before_fork`; the first veto ends it and is returned."""
        for implementation in self._implementations("before_fork"):
            try:
                self._call("before_fork", implementation, arguments)
            except VetoFork as veto:
                return veto
            except BaseException as error:
                self._log("before_fork", implementation, error, "forks anyway")
        return None

    def perform(self, run: Callable[[], Any], **arguments: Any) -> Any:
        """Run a job inside the `perform_job` wrappers of all plugins; what it raises passes.

        Runs in the process that runs the job, inside the job's timeout, so without a limit.
        """
        for implementation in reversed(self._implementations("perform_job")):
            run = functools.partial(_around, implementation, arguments, run)
        return run()

    def _implementations(
        self, hook: str, plugins: Collection[str] | None = None
    ) -> list[pluggy.HookImpl]:
        """In the order in which they are called."""
        found: list[pluggy.HookImpl] = getattr(self.plugins.hook, hook).get_hookimpls()[::-1]
        return found if plugins is None else [each for each in found if each.plugin_name in plugins]

    def _contained(
        self,
        hook: str,
        implementation: pluggy.HookImpl,
        arguments: dict[str, Any],
        consequence: str,
    ) -> Any:
        try:
            return self._call(hook, implementation, arguments)
        except BaseException as error:
            self._log(hook, implementation, error, consequence)
            return None

    def _call(self, hook: str, implementation: pluggy.HookImpl, arguments: dict[str, Any]) -> Any:
        """Call one plugin within the limit. Raises what it raises; TypeError for nonsense."""
        key = (implementation.plugin_name, hook)
        began = time.monotonic()
        if outermost := (self._limit is not None and not self._running):
            hurried = began < self._hurried.get(key, 0.0)
            self._patience = min(self._limit, SLOW) if hurried else self._limit
            self._running = True
            before = signal.signal(signal.SIGALRM, self._expired)
            # again every second: a hook may swallow the first
            signal.setitimer(signal.ITIMER_REAL, self._patience, 1.0)
        pid = os.getpid()
        try:
            with signals.off_the_terminal() if self._terminal else contextlib.nullcontext():
                answer = _invoke(implementation, arguments)
        except HookTimeout:
            if began >= self._hurried.get(key, 0.0):
                self._hurried[key] = time.monotonic() + LATELY
            raise
        finally:
            if os.getpid() != pid:  # the hook forked, and this is the child: not a second one of us
                os._exit(0)
            if outermost:
                signal.setitimer(signal.ITIMER_REAL, 0.0)
                signal.signal(signal.SIGALRM, before or signal.SIG_DFL)
                self._running = False
        answers.check(hook, answer)
        took = time.monotonic() - began
        if took > SLOW and self._limit is not None:
            logger.warning(
                f"hook {hook}: plugin '{implementation.plugin_name}' took {took:.1f} s;"
                " nothing else runs meanwhile"
            )
        if self._failures:
            self._failures.pop(key, None)
        self._hurried.pop(key, None)
        return answer

    def _expired(self, signum: int, frame: FrameType | None) -> None:
        """Raise in the hook, and only there: never in the lines that disarm the timer."""
        while frame is not None:
            if frame.f_code is _invoke.__code__:
                raise HookTimeout(f"took longer than {self._patience:g} s")
            frame = frame.f_back

    def _log(
        self, hook: str, implementation: pluggy.HookImpl, error: BaseException, consequence: str
    ) -> None:
        plugin = implementation.plugin_name
        where = place(error, implementation.function)
        counts = self._failures[plugin, hook]
        same = f"{type(error).__name__} at {where}"
        counts[same] += 1
        count = counts[same]
        if count == 1:
            logger.error(
                f"hook {hook}: plugin '{plugin}' raised {describe(error)} ({where});"
                f" {consequence}\n" + "".join(traceback.format_exception(error)).rstrip()
            )
        elif count in _THINNED:
            logger.error(
                f"hook {hook}: plugin '{plugin}' has now failed {count} times in a row"
                f" (same error: {describe(error)}, {where})"
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
        except RuntimeError as raised:
            # how Python reports a StopIteration that passes through a generator
            if isinstance(error, StopIteration) and raised.__cause__ is error:
                raise error from None
            raise
    else:
        try:
            wrapper.send(result)
        except StopIteration as end:
            return end.value
    wrapper.close()
    raise RuntimeError(f"perform_job of plugin '{name}' yielded twice")
