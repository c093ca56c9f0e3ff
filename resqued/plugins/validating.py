"""What is wrong with a plugin: hooks it misspelt, arguments that do not exist, wrappers.

pluggy stops at the first of these, and some of them it lets through until the call. Here all
are found before anything is registered, and each comes with the right name.
"""

from __future__ import annotations

import difflib
import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import pluggy

from resqued import hookspecs
from resqued.plugins.errors import place_of

WRAPPED: Final = "perform_job"
"""The one hook that is a wrapper, and always one."""

_NEAR: Final = 0.85
"""How alike a function's name and a hook's must be to be called a slip."""


class Manager(pluggy.PluginManager):
    """pluggy's manager with our hooks, in which functions of the config file need no marker."""

    def __init__(self, config_module: types.ModuleType | None = None) -> None:
        super().__init__("resqued")
        self.config_module = config_module
        self.add_hookspecs(hookspecs)

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        options = super().parse_hookimpl_opts(plugin, name)
        module = self.config_module
        if options is not None or module is None or plugin is not module or not self.is_hook(name):
            return options
        function = getattr(module, name, None)
        # only what the file itself defines: `from x import configure` makes no hook
        if not isinstance(function, types.FunctionType) or not _defined_in(function, module):
            return None
        return {"wrapper": name == WRAPPED and inspect.isgeneratorfunction(function)}

    def is_hook(self, name: str) -> bool:
        return name in self.hook_names

    @property
    def hook_names(self) -> list[str]:
        return [name for names in hookspecs.LIFE_CYCLE.values() for name in names]

    def arguments(self, hook: str) -> tuple[str, ...]:
        return tuple(getattr(self.hook, hook).spec.argnames)

    def signature(self, hook: str) -> str:
        """`after_fork(worker)`."""
        return f"{hook}({', '.join(self.arguments(hook))})"


@dataclass
class Findings:
    """Of one plugin. With errors it must not be registered."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    hooks: list[str] = field(default_factory=list)


def examine(manager: Manager, plugin: object, name: str, called: str) -> Findings:
    """Look at every hook that `plugin` implements, or seems to mean to.

    called: the plugin with its origin, for the message about a class.
    """
    found = Findings()
    if inspect.isclass(plugin):
        found.errors.append(
            f"plugin {called} resolves to the class {plugin.__name__};"
            f" point it at an instance ({plugin.__name__}()) or a module."
        )
        return found
    unmarked: list[tuple[str, Callable[..., object]]] = []
    for attribute in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, attribute)
        if options is not None:
            hook = options.get("specname") or attribute
            function = getattr(plugin, attribute)
            found.errors += _errors(manager, f"plugin '{name}'", hook, function, options)
            found.hooks.append(hook)
        elif function := _own_function(plugin, attribute):
            unmarked.append((attribute, function))
    for attribute, function in unmarked:
        _look_at_unmarked(manager, plugin, name, attribute, function, found)
    found.hooks.sort(key=lambda hook: _position(manager, hook))
    if not found.hooks and not found.errors and plugin is not manager.config_module:
        found.warnings.append(f"plugin {called} implements no hook")
    return found


def _errors(
    manager: Manager, who: str, hook: str, function: Callable[..., object], options: Any
) -> list[str]:
    at = f"{who} ({place_of(function)})"
    if not manager.is_hook(hook):
        if options.get("optionalhook"):
            return []
        return [_unknown_hook(manager, at, hook)]
    errors = []
    offered = manager.arguments(hook)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            stars = "**" if parameter.kind is parameter.VAR_KEYWORD else "*"
            errors.append(_not_plain(manager, at, hook, f"{stars}{parameter.name}"))
        elif parameter.kind is parameter.KEYWORD_ONLY:
            errors.append(_not_plain(manager, at, hook, f"keyword-only {parameter.name}"))
        elif parameter.name not in offered and parameter.default is parameter.empty:
            close = difflib.get_close_matches(parameter.name, offered, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            errors.append(
                f"{at}: {hook} has no argument '{parameter.name}'.{hint}\n"
                f"  It offers {manager.signature(hook)}; list only those you need."
            )
    wrapper = options.get("wrapper") or options.get("hookwrapper")
    if wrapper and hook != WRAPPED:
        errors.append(f"{at}: {hook} cannot be wrapped; only {WRAPPED} can.")
    elif hook == WRAPPED and not (
        options.get("wrapper") and inspect.isgeneratorfunction(inspect.unwrap(function))
    ):
        errors.append(
            f"{at}: {WRAPPED} must be a wrapper.\n"
            "  Mark it with @hookimpl(wrapper=True) and `return (yield)` where the job runs."
        )
    return errors


def _unknown_hook(manager: Manager, at: str, hook: str) -> str:
    close = difflib.get_close_matches(hook, manager.hook_names, n=1)
    hint = f"\n  Did you mean {manager.signature(close[0])}?" if close else ""
    return (
        f"{at} implements an unknown hook '{hook}'.{hint}\n"
        "  See resqued --list-hooks; a hook of a newer resqued: @hookimpl(optionalhook=True)."
    )


def _not_plain(manager: Manager, at: str, hook: str, what: str) -> str:
    return (
        f"{at}: {hook} takes plain arguments only, not {what}."
        f" Name those you want from {manager.signature(hook)}."
    )


def _look_at_unmarked(
    manager: Manager,
    plugin: object,
    name: str,
    attribute: str,
    function: Callable[..., object],
    found: Findings,
) -> None:
    """A forgotten marker, or a slip in the name of a function that needs none or lacks it."""
    if manager.is_hook(attribute):
        found.warnings.append(
            f"plugin '{name}': {attribute}() at {place_of(function)} has no @hookimpl"
            " and is never called"
        )
        return
    close = difflib.get_close_matches(attribute, manager.hook_names, n=1, cutoff=_NEAR)
    if not close or not _takes_part_of(manager.arguments(close[0]), function):
        return
    if plugin is manager.config_module:
        found.errors.append(
            _unknown_hook(manager, f"plugin '{name}' ({place_of(function)})", attribute)
        )
    elif found.hooks:
        found.warnings.append(
            f"plugin '{name}': {attribute}() at {place_of(function)} is never called."
            f" Did you mean {manager.signature(close[0])}, with @hookimpl?"
        )


def _takes_part_of(offered: tuple[str, ...], function: Callable[..., object]) -> bool:
    """Whether its arguments are some of the hook's: then the likeness is no accident."""
    taken = set(inspect.signature(function).parameters)
    return bool(taken) and taken <= set(offered)


def _own_function(plugin: object, attribute: str) -> Callable[..., object] | None:
    """A public function that the plugin itself defines, module or instance."""
    if attribute.startswith("_"):
        return None
    static = inspect.getattr_static(plugin, attribute, None)
    if not isinstance(static, types.FunctionType):
        return None
    if isinstance(plugin, types.ModuleType):
        return static if _defined_in(static, plugin) else None
    return cast("Callable[..., object]", getattr(plugin, attribute))


def _defined_in(function: types.FunctionType, module: types.ModuleType) -> bool:
    """By the file of its code: a module made by hand may carry any name."""
    file = getattr(module, "__file__", None)
    if file is None:
        return function.__module__ == module.__name__
    return Path(inspect.unwrap(function).__code__.co_filename) == Path(file)


def _position(manager: Manager, hook: str) -> int:
    names = manager.hook_names
    return names.index(hook) if hook in names else len(names)
