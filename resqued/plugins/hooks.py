"""Calling hooks: every plugin by itself, with a limit of time, so that none can harm its caller.

pluggy stops at the first exception and then skips the other plugins. Here each implementation
is called by itself, in pluggy's order; whatever it raises, SystemExit included, is logged with
plugin, hook, file and line, and the next one is called. `perform_job` alone is called by pluggy:
its wrappers lie around the job, whose exceptions pass.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import pluggy

from resqued import logs, signals
from resqued.logs import LogEvent
from resqued.plugins.answers import check_answer
from resqued.plugins.errors import deed, describe
from resqued.plugins.failures import Failures, HookFailed
from resqued.plugins.limits import BRIEF, HookTimeout, call_within, limits
from resqued.verdicts import ConfigError, VetoFork

LIMIT: Final = 10.0
"""Seconds that one hook call may take in the arbiter and in a fork server."""

SLOW: Final = 1.0
"""Seconds after which a call is a warning; also the limit of a hook that was interrupted lately."""

LATELY: Final = 60.0
"""Seconds for which a hook that was interrupted has only SLOW: one that always hangs must leave the
arbiter's loop time to obey a TERM."""

BUILT_IN: Final = "resqued_plugins"
"""The package of the built-in plugins."""

_NO_OPTIONS: Final[Any] = {
    "wrapper": False,
    "hookwrapper": False,
    "optionalhook": False,
    "tryfirst": False,
    "trylast": False,
    "specname": None,
}
"""As pluggy marks a plain implementation (`pluggy.HookimplOpts`)."""

silenced: Final[dict[str, str]] = {}
"""Plugins whose hooks this process does not call: plugin to the hook that could not be ended in the
image of this process before this one."""

_NEEDED: Final = frozenset({"add_options", "configure"})
"""Hooks of a silenced plugin that are called all the same, unless it was that one: without them the
command line would be wrong."""


@dataclass(frozen=True)
class HookAnswer:
    """Of a hook that is asked until one plugin answers."""

    value: Any
    plugin: str  # its name
    built_in: bool = False


class Hooks:
    """The plugins of one process, ready to be called.

    limit: seconds a call may take, None for no limit. Only a process whose SIGALRM is not
    RQ's (arbiter, fork server) may have one, and calls there come from the main thread.
    on_failure: gets what would otherwise be logged of a failed call; what it raises passes.
    on_call: gets the name of a hook and its plugin before the call, and "" after it; not for
    built-in plugins.
    """

    def __init__(
        self,
        plugins: pluggy.PluginManager,
        *,
        limit: float | None = None,
        on_failure: Callable[[HookFailed], None] | None = None,
        on_call: Callable[[str], None] | None = None,
    ) -> None:
        self.plugins = plugins
        self._on_call = on_call
        self._limit = limit
        self._terminal = limit is not None and any(map(os.isatty, (0, 1, 2)))
        self._calling = ""
        self._running = False  # a call within a call has the limit of the outer one
        self._hurried: dict[tuple[str, str], float] = {}  # (plugin, hook) -> until when
        self._failures = Failures(on_failure)

    @property
    def calling(self) -> str:
        """The plugin whose hook is running; empty between two calls."""
        return self._calling

    def owner_of(self, function: Callable[..., Any]) -> str:
        """The plugin in whose module, or package, a function is written; empty if none is."""
        while isinstance(function, functools.partial):
            function = function.func
        module = getattr(function, "__module__", None) or ""
        inside = ""
        for name, plugin in self.plugins.list_name_plugin():
            own = plugin.__name__ if isinstance(plugin, ModuleType) else plugin.__module__
            if module and module == own:
                return name
            if own and module.startswith(f"{own}."):
                inside = name
        return inside

    def run(self, plugin: str, function: Callable[[], object]) -> str | None:
        """Call a function that a plugin has posted to the loop, within the limit.

        Returns what it raised, which is in the log then; None if it has returned.
        """

        def posted() -> object:
            return function()

        implementation = pluggy.HookImpl(None, plugin, posted, _NO_OPTIONS)
        posted.__wrapped__ = function  # type: ignore[attr-defined]  # for the place in the log
        try:
            self._call("call_soon", implementation, {})
        except BaseException as error:
            self._failures.log("call_soon", implementation, error, "ignored")
            return describe(error)
        return None

    def has(self, hook: str) -> bool:
        """Whether any plugin has this hook."""
        return bool(self._implementations(hook))

    def has_foreign(self, hook: str) -> bool:
        """Whether a plugin that is not built in has this hook: its code may do anything."""
        return not all(map(_is_built_in, self._implementations(hook)))

    def tell(self, hook: str, **arguments: Any) -> None:
        """Call every plugin; what one raises is logged."""
        self._tell(hook, arguments)

    def tell_only(self, plugins: Collection[str], hook: str, **arguments: Any) -> None:
        """Call those of these names; what one raises is logged."""
        self._tell(hook, arguments, plugins)

    def tell_unless_refused(self, hook: str, **arguments: Any) -> None:
        """Call every plugin; what one raises is logged, but a ConfigError passes and ends it."""
        self._tell(hook, arguments, passes=ConfigError)

    def before_fork(self, **arguments: Any) -> VetoFork | None:
        """Call every `before_fork`; the first veto ends it and is returned."""
        try:
            self._tell("before_fork", arguments, passes=VetoFork, then="forks anyway")
        except VetoFork as veto:
            return veto
        return None

    def ask(self, hook: str, **arguments: Any) -> Any:
        """The first answer; a plugin that raises, or answers something else, is passed over."""
        first = self.answer(hook, **arguments)
        return first.value if first else None

    def answer(
        self, hook: str, /, *, failures: list[str] | None = None, **arguments: Any
    ) -> HookAnswer | None:
        """The same, with the plugin that has answered; None if none has. failures: what went wrong
        before, with the plugins' names, is added to it."""
        implementations = self._implementations(hook)
        for number, implementation in enumerate(implementations, start=1):
            try:
                answer = self._call(hook, implementation, arguments)
            except BaseException as error:
                following = [other.plugin_name for other in implementations[number : number + 1]]
                instead = f"asked '{following[0]}' instead" if following else "nobody else to ask"
                self._failures.log(hook, implementation, error, instead)
                if failures is not None:
                    failures.append(f"plugin '{implementation.plugin_name}' {deed(error)}")
            else:
                if answer is not None and answer is not False:
                    return HookAnswer(
                        answer, implementation.plugin_name, _is_built_in(implementation)
                    )
        return None

    def chain(self, hook: str, name: str, value: Sequence[str], **arguments: Any) -> list[str]:
        """Ask every plugin in turn, with what the one before has answered as the argument `name`;
        the last answer. None leaves it; so does a plugin that raises, or answers something else."""
        current = list(value)
        for implementation in self._implementations(hook):
            try:
                answer = self._call(hook, implementation, {**arguments, name: list(current)})
            except BaseException as error:
                self._failures.log(hook, implementation, error, f"{name} left as they are")
            else:
                if answer is not None:
                    current = list(answer)
        return current

    def demand(self, hook: str, **arguments: Any) -> None:
        """Call every plugin until one fails.

        Raises HookFailed for whatever a plugin raises, but a ConfigError as it is.
        """
        for _, error in self._raised(hook, lambda plugin: arguments):
            raise error

    def collect(
        self, hook: str, arguments_for: Callable[[str], dict[str, Any]]
    ) -> list[tuple[str, Exception]]:
        """Call every plugin with arguments made for it by its name; return who raised what.

        A HookFailed for whatever a plugin raises, but a ConfigError as it is.
        """
        return list(self._raised(hook, arguments_for))

    def perform(self, run: Callable[[], Any], **arguments: Any) -> Any:
        """Run a job inside the `perform_job` wrappers of all plugins; what it raises passes.

        Runs in the process that runs the job, inside the job's timeout, so without a limit.
        """
        if not self.has("perform_job"):
            return run()
        return self.plugins.hook.perform_job.call_extra([lambda: run()], arguments)

    def _implementations(
        self, hook: str, plugins: Collection[str] | None = None
    ) -> list[pluggy.HookImpl]:
        """In the order in which they are called."""
        found: list[pluggy.HookImpl] = getattr(self.plugins.hook, hook).get_hookimpls()[::-1]
        if silenced:
            found = [each for each in found if not _is_silenced(each.plugin_name, hook)]
        return found if plugins is None else [each for each in found if each.plugin_name in plugins]

    def _tell(
        self,
        hook: str,
        arguments: dict[str, Any],
        plugins: Collection[str] | None = None,
        passes: type[Exception] | tuple[()] = (),
        then: str = "ignored",
    ) -> None:
        for implementation in self._implementations(hook, plugins):
            try:
                self._call(hook, implementation, arguments)
            except passes:
                raise
            except BaseException as error:
                self._failures.log(hook, implementation, error, then)

    def _raised(
        self, hook: str, arguments_for: Callable[[str], dict[str, Any]]
    ) -> Iterator[tuple[str, Exception]]:
        for implementation in self._implementations(hook):
            plugin = implementation.plugin_name
            try:
                self._call(hook, implementation, arguments_for(plugin))
            except ConfigError as error:
                yield plugin, error
            except KeyboardInterrupt as error:
                if signals.handler_of(signal.SIGINT) is signal.default_int_handler:
                    raise  # the user's, at a start
                yield plugin, HookFailed(hook, implementation, error)
            except BaseException as error:
                yield plugin, HookFailed(hook, implementation, error)

    def _call(self, hook: str, implementation: pluggy.HookImpl, arguments: dict[str, Any]) -> Any:
        """Call one plugin within the limit. Raises what it raises; WrongAnswer for one that it may
        not give.

        None, without a call, when a stop was asked for and all hooks together have had their time.
        """
        if limits.closed:
            return None
        plugin = implementation.plugin_name
        key = (plugin, hook)
        began = time.monotonic()
        hurried = began < self._hurried.get(key, 0.0)
        limit = None if self._running else self._limit
        if limit is not None and hurried:
            limit = min(limit, SLOW)
        if limit is not None and (left := limits.left()) is not None:
            if left < BRIEF and not _is_built_in(implementation):
                limits.say_skipped(hook)
                return None
            limit = min(limit, max(left, BRIEF))
        nested, self._running = self._running, True
        caller, self._calling = self._calling, plugin
        on_call = None if _is_built_in(implementation) else self._on_call
        pid = os.getpid()
        if on_call is not None:
            on_call(f"hook {hook} of plugin '{plugin}'")
        try:
            with signals.off_the_terminal() if self._terminal else contextlib.nullcontext():
                answer = call_within(
                    limit,
                    _invoke,
                    implementation,
                    arguments,
                    what=f"hook {hook}: plugin '{plugin}'",
                    plugin=plugin,
                    hook=hook,
                )
        except HookTimeout:
            if not hurried:
                self._hurried[key] = time.monotonic() + LATELY
            raise
        finally:
            if os.getpid() != pid:  # the hook has forked, and this is the child: it ends here
                os._exit(0)
            if on_call is not None:
                on_call("")
            self._running, self._calling = nested, caller
            if limit is not None:
                limits.spend(time.monotonic() - began)
                limits.restore(f"hook {hook}: plugin '{plugin}'")
        check_answer(hook, answer, arguments)
        took = time.monotonic() - began
        if took > SLOW and self._limit is not None:
            logs.warning(
                f"hook {hook}: plugin '{plugin}' took {took:.1f} s; nothing else runs meanwhile",
                LogEvent.HOOK_SLOW,
                hook=hook,
                plugin=plugin,
                seconds=round(took, 3),
            )
        self._failures.forget(plugin, hook)
        self._hurried.pop(key, None)
        return answer


def _is_built_in(implementation: pluggy.HookImpl) -> bool:
    module = implementation.function.__module__ or ""  # none, of what exec has made
    return module.partition(".")[0] == BUILT_IN


def silenced_because(hook: str) -> str:
    """For the log and `--status`: why the hooks of a plugin are not called, and the remedy."""
    return (
        f"its hooks are not called, since its hook {hook} could not be ended; mend it, then send"
        " USR2, or restart"
    )


def _is_silenced(plugin: str, hook: str) -> bool:
    return plugin in silenced and (hook not in _NEEDED or silenced[plugin] == hook)


def _invoke(implementation: pluggy.HookImpl, arguments: dict[str, Any]) -> Any:
    """Call one implementation with the arguments it names."""
    wanted = [arguments[name] for name in implementation.argnames]
    optional = {name: arguments[name] for name in implementation.kwargnames if name in arguments}
    return implementation.function(*wanted, **optional)
