"""The hook `duties`: what plugins add, checked, with all that is wrong told at once."""

from __future__ import annotations

import inspect
import math
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from resqued.duties.definition import DutyDefinition, Once
from resqued.exits import Problem
from resqued.plugins.errors import place_of, short_path
from resqued.plugins.failures import HookFailed
from resqued.plugins.hooks import Hooks
from resqued.printable import is_printable
from resqued.snapshots import Generation

LIMIT: Final = 60.0
"""Seconds that one call may take, if the plugin does not say."""

LONGEST_NAME: Final = 100
"""Characters."""


class Registrations:
    """The duties of all plugins, in the order in which they were added."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._added: dict[str, DutyDefinition] = {}
        self._places: dict[str, str] = {}

    @property
    def definitions(self) -> tuple[DutyDefinition, ...]:
        return tuple(self._added.values())

    def handed_to(self, plugin: str) -> DutyAdder:
        """The `duties` of one plugin's hook."""
        return DutyAdder(self, plugin)

    def add(self, definition: DutyDefinition, place: str) -> None:
        """Add one, or note what is wrong with it. place: `file.py:3`, where it was added."""
        name, plugin = definition.name, definition.plugin
        found = list(_problems(definition))
        if not found and name in self._added:
            other = self._added[name]
            found = [
                f"plugin '{other.plugin}' has added a duty of this name"
                f" ({self._places[name]}); choose another"
            ]
        self.problems += [
            Problem(f"hook duties: plugin '{plugin}' ({place}): duty {name!r}: {text}")
            for text in found
        ]
        if not found:
            definition = replace(definition, once=Once(definition.once))
            self._added[name], self._places[name] = definition, place


class DutyAdder:
    """`duties` of the hook, for one plugin."""

    def __init__(self, registrations: Registrations, plugin: str) -> None:
        self._registrations = registrations
        self._plugin = plugin

    def add(
        self,
        name: str,
        function: Callable[[Any], float | None],
        *,
        every: float,
        once: str = Once.ARBITER,
        limit: float = LIMIT,
    ) -> None:
        """As `protocols.Duties.add`. Raises nothing: what is wrong is told with all the rest."""
        frame = sys._getframe(1)
        place = f"{short_path(frame.f_code.co_filename)}:{frame.f_lineno}"
        word: Any = once  # as all of them of any type, until they are checked
        self._registrations.add(
            DutyDefinition(name, function, every, word, limit, self._plugin), place
        )


def collect(hooks: Hooks, generation: Generation) -> Registrations:
    """Ask all plugins for their duties. Runs in the fork server, and under --check in that
    process."""
    registrations = Registrations()
    raised = hooks.collect(
        "duties",
        lambda plugin: {"duties": registrations.handed_to(plugin), "generation": generation},
    )
    for plugin, error in raised:
        if isinstance(error, HookFailed):
            trace = "".join(traceback.format_exception(error.cause)).rstrip()
            registrations.problems.append(Problem(str(error), detail=trace))
        else:  # a ConfigError
            registrations.problems.append(Problem(f"hook duties: plugin '{plugin}': {error}"))
    return registrations


def _problems(each: DutyDefinition) -> list[str]:
    """What is wrong with a duty whose fields may be of any type."""
    name: Any = each.name
    found = []
    if not isinstance(name, str) or not name.strip():
        found.append("its name must be text, and not empty")
    elif len(name) > LONGEST_NAME or not is_printable(name):
        found.append(f"its name must be printable, and have at most {LONGEST_NAME} characters")
    found += _problems_of_function(each.function)
    if not _is_positive(each.every):
        found.append(f"every={each.every!r} is no number of seconds above 0, such as every=60")
    if not _is_positive(each.limit):
        found.append(f"limit={each.limit!r} is no number of seconds above 0, such as limit=60")
    if each.once not in tuple(Once):
        words = " or ".join(f'"{word}"' for word in Once)
        found.append(f"once={each.once!r} is not {words}")
    return found


def _problems_of_function(function: Any) -> list[str]:
    if not callable(function):
        return [f"{function!r} cannot be called; give a function of one argument"]
    what = f"{getattr(function, '__qualname__', type(function).__name__)} ({place_of(function)})"
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return [f"{what} is async, and nothing would await it; call asyncio.run() in a plain one"]
    if inspect.isgeneratorfunction(function):
        return [f"{what} is a generator function, of which nothing would run; take the yield out"]
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return [f"{what} cannot be called with one argument, the duty: def archive(duty)"]
    except ValueError:  # of C code without a signature
        pass
    return []


def _is_positive(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0
