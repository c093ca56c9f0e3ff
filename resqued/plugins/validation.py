"""What is wrong with a plugin: hooks it misspelt, arguments that do not exist, wrappers.

pluggy raises for the first of these, and lets some of them through until the call. Here all are
found before a plugin is registered, and each comes with the right name.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, cast

import pluggy

from resqued.plugins.candidates import Candidate, suggestion
from resqued.plugins.errors import place_of
from resqued.plugins.specs import ADD_HOOKSPECS, HOOKS, new_manager, specified

__all__ = ["CHAINED", "HOOKS", "WRAPPED", "Findings", "examine", "mark_functions", "new_manager"]

WRAPPED: Final = "perform_job"

"""The one hook that is a wrapper, and always one."""

CHAINED: Final = frozenset({"order_queues"})
"""Hooks of which each plugin gets what the one before has answered."""

_NEAR: Final = 0.85
"""How alike a function's name and a hook's must be to count as misspelt."""

_ODD: Final[dict[Any, str]] = {
    inspect.Parameter.VAR_KEYWORD: "**",
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.KEYWORD_ONLY: "keyword-only ",
}

Known = Mapping[str, Sequence[str]]
"""Every hook that there is, and its arguments."""

_mark: Final = pluggy.HookimplMarker("resqued")


@dataclass
class Findings:
    """Of one plugin. With errors it must not be registered."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    hooks: list[str] = field(default_factory=list)  # in life-cycle order


def examine(manager: pluggy.PluginManager, plugin: object, candidate: Candidate) -> Findings:
    """Look at every hook that `plugin` implements, or seems to mean to."""
    found = Findings()
    if plugin is None:
        found.errors.append(f"plugin {candidate} is None; point it at a module or an object.")
        return found
    if inspect.isclass(plugin):
        found.errors.append(
            f"plugin {candidate} resolves to the class {plugin.__name__};"
            f" point it at an instance ({plugin.__name__}()) or a module."
        )
        return found
    known = specified(manager)
    for attribute in dir(plugin):
        if options := manager.parse_hookimpl_opts(plugin, attribute):
            hook = options.get("specname") or attribute
            function = getattr(plugin, attribute)
            found.errors += _errors(known, candidate.name, hook, function, options)
            found.hooks.append(hook)
        elif attribute in known and (what := _uncalled(plugin, attribute)):
            found.errors.append(f"plugin '{candidate.name}': {what}")
    order = list(known)
    found.hooks.sort(key=lambda hook: order.index(hook) if hook in known else len(order))
    if candidate.origin == "configuration file":
        return found
    for name, function in _unmarked(manager, plugin):
        where = f"plugin '{candidate.name}': {name}() at {place_of(function)}"
        if name in known:
            found.warnings.append(f"{where} has no @hookimpl and is never called")
        elif found.hooks and (meant := _meant(known, name, function)):
            text = f"{where} is never called. Did you mean {meant}, with @hookimpl?"
            found.warnings.append(text)
    if not found.hooks and not found.errors and not hasattr(plugin, ADD_HOOKSPECS):
        found.warnings.append(f"plugin {candidate} implements no hook")
    return found


def mark_functions(manager: pluggy.PluginManager, module: types.ModuleType, name: str) -> list[str]:
    """Mark as hooks the functions of the config file that are called so; find misspelt ones.

    Only what the file itself defines counts: `from x import configure` makes no hook.
    """
    errors = []
    known = specified(manager)
    for attribute, function in vars(module).items():
        if attribute in known and isinstance(function, functools.partial | types.MethodType):
            errors.append(
                f"plugin '{name}': {attribute} is an object of {type(function).__name__}, and only"
                f" functions that the file defines are called.\n"
                f"  Write `def {attribute}(...)`, and call the object in it."
            )
        if not isinstance(function, types.FunctionType) or not _defined_in(function, module):
            continue
        if hasattr(function, "resqued_impl") or attribute.startswith("_"):
            continue
        if attribute in known:
            generator = inspect.isgeneratorfunction(function)
            _mark(function, wrapper=attribute == WRAPPED and generator)
        elif _meant(known, attribute, function):
            errors.append(_unknown_hook(known, name, attribute, function))
    return errors


def _errors(
    known: Known, name: str, hook: str, function: Callable[..., object], options: Any
) -> list[str]:
    at = f"plugin '{name}' ({place_of(function)})"
    if hook not in known:
        if hook == ADD_HOOKSPECS:
            return [f"{at}: {hook} is no hook; take the @hookimpl away."]
        if options.get("optionalhook"):
            return []
        return [_unknown_hook(known, name, hook, function)]
    errors = []
    offered = known[hook]
    for parameter in inspect.signature(function).parameters.values():
        odd = _ODD.get(parameter.kind)
        if odd is not None:
            errors.append(
                f"{at}: {hook} takes plain arguments only, not {odd}{parameter.name}."
                f" Name those you want from {_signature(known, hook)}."
            )
        elif parameter.name not in offered and parameter.default is parameter.empty:
            errors.append(
                f"{at}: {hook} has no argument '{parameter.name}'."
                f"{suggestion(parameter.name, offered)}\n"
                f"  It offers {_signature(known, hook)}; list only those you need."
            )
    if hook in HOOKS:  # a plugin may call its own as it likes
        errors += _kind_errors(at, hook, function, options)
    return errors


def _kind_errors(at: str, hook: str, function: Callable[..., object], options: Any) -> list[str]:
    """What is wrong with the kind of function that it is."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return [
            f"{at}: {hook} is an async function, and nothing would await it.\n"
            "  Write a plain one (def); asyncio.run() runs in it what is async."
        ]
    wraps = options.get("wrapper") or options.get("hookwrapper")
    generator = inspect.isgeneratorfunction(function)
    if hook == WRAPPED:
        if options.get("wrapper") and generator:
            return []
        return [
            f"{at}: {WRAPPED} must be a wrapper.\n"
            "  Mark it with @hookimpl(wrapper=True) and `return (yield)` where the job runs."
        ]
    if wraps:
        return [f"{at}: {hook} cannot be wrapped; only {WRAPPED} can."]
    if generator:
        return [
            f"{at}: {hook} is a generator function, of which nothing would run.\n"
            f"  Take the yield out of it; only {WRAPPED} yields."
        ]
    return []


def _uncalled(plugin: object, attribute: str) -> str:
    """What is marked as a hook, but is no function, so that pluggy passes it over."""
    value = inspect.getattr_static(plugin, attribute, None)
    if not isinstance(getattr(value, "resqued_impl", None), dict):
        return ""
    return (
        f"{attribute} is an object of {type(value).__name__}, and only functions and methods are"
        f" called.\n  Write `def {attribute}(...)` with @hookimpl, and call the object in it."
    )


def _unknown_hook(known: Known, name: str, hook: str, function: Callable[..., object]) -> str:
    close = get_close_matches(hook, list(known), n=1)
    hint = f"\n  Did you mean {_signature(known, close[0])}?" if close else ""
    return (
        f"plugin '{name}' ({place_of(function)}) implements an unknown hook '{hook}'.{hint}\n"
        "  See resqued --list-hooks; a hook of a newer resqued, or of a plugin that may be absent:"
        " @hookimpl(optionalhook=True)."
    )


def _meant(known: Known, name: str, function: Callable[..., object]) -> str:
    """The hook that a function is probably meant to be, as it is written; empty if it resembles
    none.

    Its arguments must be some of the hook's, so that the likeness is no accident.
    """
    close = get_close_matches(name, list(known), n=1, cutoff=_NEAR)
    taken = set(inspect.signature(function).parameters) if close else set()
    return _signature(known, close[0]) if taken and taken <= set(known[close[0]]) else ""


def _signature(known: Known, hook: str) -> str:
    """`after_fork(worker)`."""
    return f"{hook}({', '.join(known[hook])})"


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
