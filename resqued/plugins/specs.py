"""The hooks that there are: those of `hookspecs`, and those that plugins declare for each other.

A plugin declares hooks in `add_hookspecs(manager)`, a plain function or method that is called with
pluggy's manager in every process that loads plugins, before hooks are looked at. It calls
`manager.add_hookspecs(module_or_class)`, and later `manager.hook.<name>(argument=...)`, which is
pluggy's call: what one implementation raises ends it and reaches the plugin that calls.

A reload makes another manager. `add_hookspecs` is called with that of the reload, and again with
the one that is in force afterwards: the last one that a plugin has got is right.
"""

from __future__ import annotations

import inspect
from typing import Any, Final

import pluggy

from resqued import hookspecs
from resqued.plugins.errors import describe, place
from resqued.plugins.limits import call_within

ADD_HOOKSPECS: Final = "add_hookspecs"

HOOKS: Final = tuple(name for names in hookspecs.LIFE_CYCLE.values() for name in names)
"""resqued's own, in life-cycle order."""


class RepeatableSpecs(pluggy.PluginManager):
    """pluggy's manager; the same hookspecs may be added to it again, which does nothing."""

    def __init__(self) -> None:
        super().__init__("resqued")
        self._added: list[object] = []
        self.add_hookspecs(hookspecs)

    def add_hookspecs(self, module_or_class: Any) -> None:
        if not any(each is module_or_class for each in self._added):
            super().add_hookspecs(module_or_class)
            self._added.append(module_or_class)


class SpecError(Exception):
    """A plugin's `add_hookspecs` has raised. The message says what and where."""


def new_manager() -> pluggy.PluginManager:
    """pluggy's manager with the hooks of `hookspecs`."""
    return RepeatableSpecs()


def specified(manager: pluggy.PluginManager) -> dict[str, tuple[str, ...]]:
    """Every hook that has a specification, with its arguments: resqued's own, then the others."""
    callers = vars(manager.hook)
    others = [name for name in callers if name not in HOOKS and not name.startswith("_")]
    return {
        name: tuple(callers[name].spec.argnames)
        for name in (*HOOKS, *others)
        if callers[name].has_spec()
    }


def declare(
    manager: pluggy.PluginManager, plugin: object, limit: float | None = None
) -> tuple[str, ...]:
    """Call the `add_hookspecs` of a plugin that has one. Returns the hooks that are new.

    limit: seconds that it may take; needs the main thread and SIGALRM. Raises SpecError.
    """
    before = specified(manager)
    function = None
    try:
        function = getattr(plugin, ADD_HOOKSPECS, None)
        if callable(function):
            returned = call_within(limit, function, manager, what=f"{ADD_HOOKSPECS} of a plugin")
            if inspect.iscoroutine(returned) or inspect.isgenerator(returned):
                returned.close()
                raise TypeError("it is an async or generator function; write a plain one")
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        text = f"{ADD_HOOKSPECS} raised {describe(error)} ({place(error, function)})"
        raise SpecError(text) from error
    return tuple(name for name in specified(manager) if name not in before)
