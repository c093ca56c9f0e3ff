"""The plugin under test: examined and registered as in production, alone."""

from __future__ import annotations

import inspect
import types
from importlib import metadata
from pathlib import Path

import pluggy

from resqued.plugins.candidates import GROUP, AskedPlugin, Candidate
from resqued.plugins.specs import SpecError, declare
from resqued.plugins.validation import examine, new_manager


class Subject:
    """One plugin with its hooks: a module, an object, or what an entry point leads to.

    Raises TypeError, with all that is wrong, for what resqued would not load.
    """

    def __init__(self, plugin: object) -> None:
        self.word = _word_of(plugin)
        """What the names of its options begin with; empty for an object that is not installed."""
        self.name = self.word.removeprefix(f"{GROUP}_")
        """As `-p` knows it, once it is installed; empty for such an object."""
        self.shown = self.name or type(plugin).__name__
        self.manager: pluggy.PluginManager = new_manager()
        candidate = Candidate(self.shown, asked=AskedPlugin(self.shown, "the test"))
        try:
            declare(self.manager, plugin)
        except SpecError as error:
            raise TypeError(f"plugin '{self.shown}': {error}") from error
        findings = examine(self.manager, plugin, candidate)
        if findings.errors:
            raise TypeError("\n".join(findings.errors))
        self.manager.register(plugin, self.shown)
        self.hooks = findings.hooks
        self.warnings = findings.warnings

    def implementations(self, hook: str) -> list[pluggy.HookImpl]:
        """Its functions for a hook, in the order in which they are called."""
        found: list[pluggy.HookImpl] = getattr(self.manager.hook, hook).get_hookimpls()
        return found[::-1]


def _word_of(plugin: object) -> str:
    if not isinstance(plugin, types.ModuleType | type):
        module = inspect.getmodule(type(plugin))
        return _entry_point_of(module.__name__ if module else "", plugin)
    if found := _entry_point_of(plugin.__name__, plugin):
        return found
    file = Path(getattr(plugin, "__file__", None) or "__init__.py").stem
    return plugin.__name__.rpartition(".")[2] if file == "__init__" else file


def _entry_point_of(module: str, plugin: object) -> str:
    """The name under which it is installed; empty if it is not."""
    for point in metadata.entry_points(group=GROUP):
        if point.module == module and point.load() is plugin:
            return point.name
    return ""
