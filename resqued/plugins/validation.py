"""What is wrong with a plugin: hooks it misspelt, arguments that do not exist, wrappers.

pluggy raises for the first of these, and lets some of them through until the call. Here all are
found before a plugin is registered, and each comes with the right name.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, cast

import pluggy

from resqued import hookspecs
from resqued.plugins.candidates import Candidate, suggestion
from resqued.plugins.errors import place_of

WRAPPED: Final = "perform_job"

CHAINED: Final = frozenset({"order_queues"})
"""Hooks of which each plugin gets what the one before has answered."""
"""The one hook that is a wrapper, and always one."""

HOOKS: Final = tuple(name for names in hookspecs.LIFE_CYCLE.values() for name in names)

_NEAR: Final = 0.85
"""How alike a function's name and a hook's must be to count as misspelt."""

_ODD: Final[dict[Any, str]] = {
    inspect.Parameter.VAR_KEYWORD: "**",
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.KEYWORD_ONLY: "keyword-only ",
}

_mark: Final = pluggy.HookimplMarker("resqued")


def new_manager() -> pluggy.PluginManager:
    """pluggy's manager with the hooks of `hookspecs`."""
    manager = pluggy.PluginManager("resqued")
    manager.add_hookspecs(hookspecs)
    return manager


@dataclass
class Findings:
    """Of one plugin. With errors it must not be registered."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    hooks: list[str] = field(default_factory=list)  # in life-cycle order


def examine(manager: pluggy.PluginManager, plugin: object, candidate: Candidate) -> Findings:
    """Look at every hook that `plugin` implements, or seems to mean to."""
    found = Findings()
    if inspect.isclass(plugin):
        found.errors.append(
            f"plugin {candidate} resolves to the class {plugin.__name__};"
            f" point it at an instance ({plugin.__name__}()) or a module."
        )
        return found
    for attribute in dir(plugin):
        if options := manager.parse_hookimpl_opts(plugin, attribute):
            hook = options.get("specname") or attribute
            found.errors += _errors(candidate.name, hook, getattr(plugin, attribute), options)
            found.hooks.append(hook)
    found.hooks.sort(key=lambda hook: HOOKS.index(hook) if hook in HOOKS else len(HOOKS))
    if candidate.origin == "configuration file":
        return found
    for name, function in _unmarked(manager, plugin):
        where = f"plugin '{candidate.name}': {name}() at {place_of(function)}"
        if name in HOOKS:
            found.warnings.append(f"{where} has no @hookimpl and is never called")
        elif found.hooks and (meant := _meant(name, function)):
            text = f"{where} is never called. Did you mean {_signature(meant)}, with @hookimpl?"
            found.warnings.append(text)
    if not found.hooks and not found.errors:
        found.warnings.append(f"plugin {candidate} implements no hook")
    return found


def mark_functions(module: types.ModuleType, name: str) -> list[str]:
    """Mark as hooks the functions of the config file that are called so; find misspelt ones.

    Only what the file itself defines counts: `from x import configure` makes no hook.
    """
    errors = []
    for attribute, function in vars(module).items():
        if not isinstance(function, types.FunctionType) or not _defined_in(function, module):
            continue
        if hasattr(function, "resqued_impl") or attribute.startswith("_"):
            continue
        if attribute in HOOKS:
            generator = inspect.isgeneratorfunction(function)
            _mark(function, wrapper=attribute == WRAPPED and generator)
        elif _meant(attribute, function):
            errors.append(_unknown_hook(name, attribute, function))
    return errors


def _errors(name: str, hook: str, function: Callable[..., object], options: Any) -> list[str]:
    at = f"plugin '{name}' ({place_of(function)})"
    if hook not in HOOKS:
        return [] if options.get("optionalhook") else [_unknown_hook(name, hook, function)]
    errors = []
    offered = _arguments(hook)
    for parameter in inspect.signature(function).parameters.values():
        odd = _ODD.get(parameter.kind)
        if odd is not None:
            errors.append(
                f"{at}: {hook} takes plain arguments only, not {odd}{parameter.name}."
                f" Name those you want from {_signature(hook)}."
            )
        elif parameter.name not in offered and parameter.default is parameter.empty:
            errors.append(
                f"{at}: {hook} has no argument '{parameter.name}'."
                f"{suggestion(parameter.name, offered)}\n"
                f"  It offers {_signature(hook)}; list only those you need."
            )
    if hook != WRAPPED:
        if options.get("wrapper") or options.get("hookwrapper"):
            errors.append(f"{at}: {hook} cannot be wrapped; only {WRAPPED} can.")
    elif not (options.get("wrapper") and inspect.isgeneratorfunction(inspect.unwrap(function))):
        errors.append(
            f"{at}: {WRAPPED} must be a wrapper.\n"
            "  Mark it with @hookimpl(wrapper=True) and `return (yield)` where the job runs."
        )
    return errors


def _unknown_hook(name: str, hook: str, function: Callable[..., object]) -> str:
    close = get_close_matches(hook, HOOKS, n=1)
    hint = f"\n  Did you mean {_signature(close[0])}?" if close else ""
    return (
        f"plugin '{name}' ({place_of(function)}) implements an unknown hook '{hook}'.{hint}\n"
        "  See resqued --list-hooks; a hook of a newer resqued: @hookimpl(optionalhook=True)."
    )


def _meant(name: str, function: Callable[..., object]) -> str:
    """The hook that a function is probably meant to be; empty if it resembles none.

    Its arguments must be some of the hook's, so that the likeness is no accident.
    """
    close = get_close_matches(name, HOOKS, n=1, cutoff=_NEAR)
    taken = set(inspect.signature(function).parameters) if close else set()
    return close[0] if taken and taken <= set(_arguments(close[0])) else ""


def _arguments(hook: str) -> tuple[str, ...]:
    return tuple(inspect.signature(getattr(hookspecs, hook)).parameters)


def _signature(hook: str) -> str:
    """`after_fork(worker)`."""
    return f"{hook}({', '.join(_arguments(hook))})"


def _unmarked(
    manager: pluggy.PluginManager, plugin: object
) -> Iterator[tuple[str, Callable[..., object]]]:
    """Public functions that the plugin itself defines, module or instance, and no hooks."""
    for name in dir(plugin):
        static = inspect.getattr_static(plugin, name, None)
        if name.startswith("_") or not isinstance(static, types.FunctionType):
            continue
        if isinstance(plugin, types.ModuleType) and not _defined_in(static, plugin):
            continue
        if manager.parse_hookimpl_opts(plugin, name) is None:
            yield name, cast("Callable[..., object]", getattr(plugin, name))


def _defined_in(function: types.FunctionType, module: types.ModuleType) -> bool:
    """By the file of its code: a module made by hand may carry any name."""
    file = getattr(module, "__file__", None)
    if file is None:
        return function.__module__ == module.__name__
    return Path(inspect.unwrap(function).__code__.co_filename) == Path(file)
