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
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from resqued import logs, signal_stack
from resqued.config import Config
from resqued.forkserver import fork_hazards
from resqued.logs import logger
from resqued.namesakes import put_first, put_last, warning_of
from resqued.plugins.errors import describe, place
from resqued.plugins.hooks import HookFailed
from resqued.plugins.registry import PluginError, Plugins, load_plugins
from resqued.settings import configfile
from resqued.snapshots import Generation
from resqued.verdicts import ConfigError

_NEARLY: Final = 0.8  # of the boot timeout, which began to run before we were told


class LoadFailed(Exception):
    """A generation that cannot be. `reason` is one line, `trace` the traceback or empty."""

    def __init__(self, reason: str, trace: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.trace = trace


def load(config: Config, number: int, stacks: int) -> Plugins:
    """Plugins, the config file for its hooks, the `require` modules, then `app_loaded`.

    Runs in the fork server. Whatever goes wrong there, `sys.exit` included, is a LoadFailed;
    what hangs or crashes the process is the arbiter's to notice. stacks: a descriptor that gets
    the stacks shortly before the arbiter loses its patience.
    """
    try:
        with _watched(config.boot_timeout * _NEARLY, stacks):
            return _load(config, number)
    except LoadFailed:
        raise
    except (Exception, SystemExit) as error:
        reason = f"loading failed: {describe(error)} ({place(error)})"
        raise LoadFailed(reason, _trace(error)) from error


@contextlib.contextmanager
def _watched(seconds: float, stacks: int) -> Iterator[None]:
    """Have faulthandler show where it hangs, also inside C code. SIGALRM is nobody's yet."""
    faulthandler.register(signal.SIGALRM, file=stacks, all_threads=True)
    signal_stack.widen()
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.unregister(signal.SIGALRM)


def _load(config: Config, number: int) -> Plugins:
    put_first(config.path)
    put_last(str(Path.cwd()))
    sys.argv = ["resqued"]  # an application may look at it while it is imported
    plugins = _load_plugins(config)
    if config.preload_app:
        for name in config.require:
            _import(name)
    generation = Generation(
        number, os.getpid(), config.require if config.preload_app else (), config
    )
    try:
        plugins.hooks().demand("app_loaded", generation=generation)
    except HookFailed as error:
        raise LoadFailed(str(error), _trace(error.cause)) from error
    except ConfigError as error:
        raise LoadFailed(f"hook app_loaded: {error}") from error
    logs.repair()
    return plugins


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
        raise LoadFailed(str(error), _trace(cause) if cause else "") from error
    for warning in plugins.warnings:
        logger.warning(warning)
    return plugins


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:
        reason = f"the import of '{name}' failed: {describe(error)} ({place(error)})"
        raise LoadFailed(reason, _trace(error)) from error
    if hidden := warning_of(name):
        logger.warning(hidden)


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).rstrip()


def settle(before: dict[int, int]) -> None:
    """Make the loaded memory ready to be shared: nothing of it is looked at by the GC again.

    The collector was off while it was filled, and collecting now would punch holes that every
    child then writes into (bpo-31558): measured, a fifth more private memory in each worker.
    before: `fork_hazards.sockets()` from before it was loaded.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a peer that is gone is an error, not our end
    gc.freeze()
    fork_hazards.warn_of_threads()
    fork_hazards.warn_of_sockets(before)
