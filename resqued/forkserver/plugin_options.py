"""Whether plugins declare here the options that the arbiter's settings were made with.

A fork server imports plugins anew, and the arbiter has them from its own start. Where the code on
disk has changed meanwhile, a hook here may use an option that the settings do not have.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resqued.config import Config
from resqued.plugins.hooks import Hooks
from resqued.plugins.registry import Plugins


class DeclaredNames:
    """`options` of `add_options` here: only the names count, the arbiter has checked the rest."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def add(self, flag: str, **more: Any) -> None:
        """Declare a flag, with whatever describes it."""
        self.names.add(flag.removeprefix("--").replace("-", "_"))


def differences(plugins: Plugins, hooks: Hooks, config: Config) -> list[str]:
    """A message for each plugin that declares other options than the settings have. hooks: theirs.

    What an `add_options` raises is one too.
    """
    if not config.loaded_plugins:
        return []  # not made by a command line
    here: dict[str, DeclaredNames] = {each.name: DeclaredNames() for each in plugins.loaded()}
    raised = hooks.collect("add_options", lambda plugin: {"options": here[plugin]})
    found = [str(error) for _, error in raised]
    for plugin, declared in here.items():
        known = {name for name, owner in config.option_plugins.items() if owner == plugin}
        new, gone = sorted(declared.names - known), sorted(known - declared.names)
        if (new or gone) and not any(name == plugin for name, _ in raised):
            parts = [f"{_flags(new)} added"] if new else []
            parts += [f"{_flags(gone)} removed"] if gone else []
            found.append(
                f"the options of plugin '{plugin}' on disk are not those that the arbiter has"
                f" loaded: {', '.join(parts)}; {_remedy(plugin, config)}"
            )
    return found


def _flags(names: list[str]) -> str:
    return " and ".join(f"--{name.replace('_', '-')}" for name in names)


def _remedy(plugin: str, config: Config) -> str:
    if config.config and plugin == Path(config.config).name:
        return "send HUP again: the file has changed meanwhile"
    return "send USR2 to the arbiter, which loads the new code there too"
