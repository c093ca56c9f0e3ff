"""The plugins of one process: found, loaded, checked, registered.

Built once per run and once more per reload; nothing is kept on the module. What was asked for
must load; what is merely installed must not hurt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import metadata
from types import ModuleType

import pluggy

from resqued.exits import ExitCode
from resqued.plugins import finding
from resqued.plugins.finding import Asked, Candidate
from resqued.plugins.hooks import Hooks
from resqued.plugins.registering import BLOCKED as BLOCKED
from resqued.plugins.registering import BROKEN as BROKEN
from resqued.plugins.registering import IDLE as IDLE
from resqued.plugins.registering import LOADED as LOADED
from resqued.plugins.registering import PluginInfo as PluginInfo
from resqued.plugins.registering import Registration
from resqued.plugins.validating import Manager


class PluginError(Exception):
    """Plugins that were asked for cannot be had. Every fault at once, each a message.

    plugins: what could be loaded nevertheless, for the listings.
    """

    def __init__(
        self, errors: Sequence[str], plugins: Plugins, exit_code: ExitCode = ExitCode.CONFIG
    ) -> None:
        super().__init__("\n".join(errors))
        self.errors = list(errors)
        self.plugins = plugins
        self.exit_code = exit_code


class Plugins:
    """What was found, and the manager that holds what was loaded."""

    def __init__(
        self, manager: Manager, found: list[PluginInfo], warnings: list[str], errors: list[str]
    ) -> None:
        self.manager: pluggy.PluginManager = manager
        self.found = found
        self.warnings = warnings
        self.errors = errors
        self.installed: tuple[Candidate, ...] = ()

    def hooks(self, limit: float | None = None) -> Hooks:
        """The hooks, ready to be called. limit: seconds a call may take, None for no limit."""
        return Hooks(self.manager, limit=limit)

    def installed_built_in(self) -> list[Candidate]:
        """The built-in plugins, loaded or not."""
        return [candidate for candidate in self.installed if candidate.built_in]

    def loaded(self) -> list[PluginInfo]:
        """In the order in which they are called."""
        return [info for info in self.found if info.status == LOADED]

    def new_since(self, old: Plugins) -> list[str]:
        """Names of plugins that are not the same objects as in `old`.

        After a reload: the config file, which was read anew, and what was added.
        """
        return [
            name
            for name, plugin in self.manager.list_name_plugin()
            if plugin is not None and old.manager.get_plugin(name) is not plugin
        ]

    def dropped_by(self, new: Plugins) -> list[str]:
        """Names of plugins that `new` does not have any more."""
        return [
            name
            for name, plugin in self.manager.list_name_plugin()
            if plugin is not None and not new.manager.has_plugin(name)
        ]

    def banner(self) -> str:
        """One line for the log: `plugins: statsd 0.3.0, shares; blocked: recycle`."""
        parts = [
            "plugins: "
            + (
                ", ".join(
                    f"{info.name} {info.version}"
                    if info.version and info.origin != "built in"
                    else info.name
                    for info in self.loaded()
                )
                or "none"
            )
        ]
        for status, text in ((BLOCKED, "blocked"), (BROKEN, "not loaded")):
            names = [info.name for info in self.found if info.status == status]
            if names:
                parts.append(f"{text}: {', '.join(names)}")
        return "; ".join(parts)


def load_plugins(
    names: Iterable[str | Asked],
    *,
    autoload: bool = True,
    config_module: ModuleType | None = None,
    known: Sequence[Candidate] = (),
) -> Plugins:
    """Load the built-ins, what is installed, what `names` ask for, then the config file.

    In this order they are registered, so the nearest to the user is called first. names: NAME
    or no:NAME, each perhaps with where it was written; the last word on a plugin wins. known: as
    for `finding.find`.
    Runs in the arbiter, in each fork server, and under --check and the listings.
    Raises PluginError for whatever was asked for and cannot be had, all of it at once.
    """
    asked = [Asked(name) if isinstance(name, str) else name for name in names]
    loading = Registration(config_module)
    installed: list[Candidate] = []
    try:
        candidates = finding.find(asked, autoload=autoload, known=known)
    except metadata.PackageNotFoundError:
        loading.errors.append("resqued is not installed here; run: pip install -e .")
    else:
        installed = candidates.installed
        loading.warnings += candidates.warnings
        loading.load_all(candidates)
    if config_module is not None:
        loading.take_config(config_module)
    plugins = Plugins(loading.manager, loading.found(), loading.warnings, loading.errors)
    plugins.installed = tuple(installed)
    if plugins.errors:
        code = ExitCode.NO_PERMISSION if loading.untrusted else ExitCode.CONFIG
        raise PluginError(plugins.errors, plugins, code)
    return plugins
