"""The configuration and plugins in force, and those that a reload tries. Runs in the arbiter."""

from __future__ import annotations

from collections.abc import Callable

from resqued import logs
from resqued.config import Config
from resqued.core.state import Policy
from resqued.exits import InvalidSettings
from resqued.logs import LogEvent
from resqued.plan import Plan, make_plan
from resqued.plugins import hooks as calls
from resqued.plugins.errors import describe
from resqued.plugins.hooks import Hooks
from resqued.plugins.loaded_code import LoadedCode
from resqued.settings.loader import LoadedConfig
from resqued.settings.shown import ShownSetting
from resqued.verdicts import ConfigError


class ActiveConfig:
    """The settings and plugins in force. reload: reads everything again.

    `try_out` and `plan` raise ConfigError with the reason, on one line or several.
    """

    def __init__(self, loaded: LoadedConfig, reload: Callable[[Config], LoadedConfig]) -> None:
        self._loaded = loaded
        self._reload = reload
        self._tried: dict[int, LoadedConfig] = {}
        self._code = LoadedCode()
        self._code.note(loaded.plugins)
        self.hooks: Hooks = loaded.plugins.hooks(calls.LIMIT)

    @property
    def config(self) -> Config:
        return self._loaded.config

    @property
    def shown(self) -> tuple[ShownSetting, ...]:
        """Each setting in force, with where its value came from."""
        return self._loaded.shown

    def config_of(self, generation: int) -> Config:
        """The settings that a fork server of this generation gets."""
        return self._tried.get(generation, self._loaded).config

    def hooks_of(self, generation: int) -> Hooks:
        """The plugins that a fork server of this generation gets."""
        tried = self._tried.get(generation)
        return tried.plugins.hooks(calls.LIMIT) if tried is not None else self.hooks

    def try_out(self, generation: int, difference: int) -> tuple[Policy, Plan]:
        """Read everything again, and plan for the configured count and the difference."""
        try:
            loaded = self._reload(self.config)
        except InvalidSettings as refused:
            raise ConfigError("\n".join(refused.errors)) from refused
        except BaseException as error:  # in the loop none is the user's
            logs.exception("reload: reading the configuration failed", LogEvent.ARBITER_NOTICE)
            raise ConfigError(describe(error)) from error
        finally:  # those in force have got the manager of the others
            self._loaded.plugins.declare_again()
        self._code.note(loaded.plugins)
        if warning := self._code.warning(loaded.plugins):
            logs.warning(warning, LogEvent.SETTING_WARNING)
        for warning in loaded.warnings:
            logs.warning(warning, LogEvent.SETTING_WARNING)
        config = loaded.config
        plugins = loaded.plugins.hooks(calls.LIMIT)
        wanted = max(0, config.workers + difference)
        try:
            plan = make_plan(plugins, config, wanted)
        except ConfigError:
            if wanted == config.workers:
                raise
            plan = make_plan(plugins, config, config.workers)
        self._tried[generation] = loaded
        return Policy.of(config), plan

    def discard(self, generation: int) -> None:
        self._tried.pop(generation, None)

    def promote(self, generation: int) -> tuple[set[str], set[str]]:
        """Put what was tried in force. Returns the names of new and of dropped plugins."""
        loaded = self._tried.pop(generation, None)
        if loaded is None:
            return set(), set()
        new = set(loaded.plugins.new_since(self._loaded.plugins))
        dropped = set(self._loaded.plugins.dropped_by(loaded.plugins))
        self._loaded = loaded
        loaded.plugins.declare_again()
        self.hooks = loaded.plugins.hooks(calls.LIMIT)
        return new, dropped

    def plan(self, count: int) -> Plan:
        """The queues of each worker, for another count."""
        try:
            return make_plan(self.hooks, self.config, count)
        except ConfigError as error:
            # on one line: the remedy, if it has one, is indented below
            lines = filter(None, map(str.strip, str(error).splitlines()))
            raise ConfigError("; ".join(lines)) from error
