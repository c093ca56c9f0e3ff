"""Loading the application, once, in a fork server, so that its workers share the memory."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from resqued import logs, signal_stack
from resqued.config import Config
from resqued.duties import registrations
from resqued.duties.definition import DutyDefinition
from resqued.forkserver import fork_hazards
from resqued.forkserver.plugin_options import differences
from resqued.logs import LogEvent
from resqued.namesakes import put_first, put_last, warning_of
from resqued.plugins.errors import describe, place
from resqued.plugins.failures import HookFailed
from resqued.plugins.hooks import Hooks
from resqued.plugins.registry import PluginError, Plugins, load_plugins
from resqued.settings import configfile
from resqued.snapshots import Generation
from resqued.verdicts import ConfigError

_NEARLY: Final = 0.8  # of the boot timeout, which began before this process got the settings


class Loaded(NamedTuple):
    """What a fork server has loaded, besides the application."""

    plugins: Plugins
    duties: tuple[DutyDefinition, ...]


class CannotLoad(Exception):
    """The application cannot be loaded. `reason` is one line, `trace` the traceback or empty."""

    def __init__(self, reason: str, trace: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.trace = trace


def load(
    config: Config,
    number: int,
    stacks: int,
    *,
    on_call: Callable[[str], None],
    reload: bool = False,
) -> Loaded:
    """Plugins, the config file for its hooks, `before_load`, the `require` modules, `app_loaded`,
    `duties`.

    Runs in the fork server. Every error, `sys.exit` included, is a CannotLoad; the arbiter
    notices a hang or a crash of the process. stacks: a descriptor for the stacks of all threads,
    written shortly before the boot timeout. on_call: gets the name of each hook and module before
    it is called or imported, and "" afterwards, since it may end this process. reload: another
    generation is in service, so plugins with other options than the settings have are an error.
    Without one, workers with an old plugin in the arbiter are better than none.
    """
    try:
        with _watched(config.boot_timeout * _NEARLY, stacks):
            return _load(config, number, on_call, reload)
    except CannotLoad:
        raise
    except (Exception, SystemExit) as error:
        reason = f"loading failed: {describe(error)} ({place(error)})"
        raise CannotLoad(reason, _trace(error)) from error


@contextlib.contextmanager
def _watched(seconds: float, stacks: int) -> Iterator[None]:
    """Have faulthandler show where it hangs, also inside C code. SIGALRM is not used otherwise
    yet."""
    faulthandler.register(signal.SIGALRM, file=stacks, all_threads=True)
    signal_stack.widen()
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.unregister(signal.SIGALRM)


def _load(config: Config, number: int, on_call: Callable[[str], None], reload: bool) -> Loaded:
    put_first(config.path)
    put_last(str(Path.cwd()))
    sys.argv = ["resqued"]  # an application may look at it while it is imported
    with _named("the import of plugins", on_call):
        plugins = _load_plugins(config)
    hooks = plugins.hooks(on_call=on_call)
    if reload and (found := differences(plugins, hooks, config)):
        raise CannotLoad("\n".join(found))
    modules = config.require if config.preload_app else ()
    generation = Generation(number, os.getpid(), modules, config)
    _demand(hooks, "before_load", generation)
    for name in modules:
        with _named(f"the import of '{name}'", on_call):
            _import(name)
    _demand(hooks, "app_loaded", generation)
    duties = _collect_duties(hooks, generation)
    logs.repair()
    return Loaded(plugins, duties)


@contextlib.contextmanager
def _named(what: str, on_call: Callable[[str], None]) -> Iterator[None]:
    on_call(what)
    try:
        yield
    finally:
        on_call("")


def _demand(hooks: Hooks, hook: str, generation: Generation) -> None:
    try:
        hooks.demand(hook, generation=generation)
    except HookFailed as error:
        raise CannotLoad(str(error), _trace(error.cause)) from error
    except ConfigError as error:
        raise CannotLoad(f"hook {hook}: {error}") from error


def _collect_duties(hooks: Hooks, generation: Generation) -> tuple[DutyDefinition, ...]:
    found = registrations.collect(hooks, generation)
    if found.problems:
        texts = [problem.text for problem in found.problems]
        details = [problem.detail for problem in found.problems if problem.detail]
        raise CannotLoad("\n".join(texts), "\n".join(details))
    return found.definitions


def _load_plugins(config: Config) -> Plugins:
    try:
        file = configfile.execute(config.config) if config.config else None
        plugins = load_plugins(
            config.plugins,
            autoload=config.autoload,
            config_module=file.module if file else None,
        )
    except (configfile.BadFile, PluginError) as error:
        cause = error.__cause__
        raise CannotLoad(str(error), _trace(cause) if cause else "") from error
    for warning in plugins.warnings:
        logs.warning(warning, LogEvent.FORK_SERVER_NOTICE)
    return plugins


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:
        reason = f"the import of '{name}' failed: {describe(error)} ({place(error)})"
        raise CannotLoad(reason, _trace(error)) from error
    if hidden := warning_of(name):
        logs.warning(hidden, LogEvent.FORK_SERVER_NOTICE)


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).rstrip()


def settle(before: dict[int, int]) -> None:
    """Freeze the loaded objects, so that the garbage collector does not write to shared memory.

    The collector was off while they were loaded. A collection now would free memory between them,
    which every child then writes to (bpo-31558): a fifth more private memory in each worker.
    before: `fork_hazards.sockets()` from before it was loaded.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a closed peer is an error, not the end
    gc.freeze()
    fork_hazards.warn_of_threads()
    fork_hazards.warn_of_sockets(before)
