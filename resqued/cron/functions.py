"""What a job calls, as RQ names it, and whether a worker could import it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from rq.utils import import_attribute, resolve_function_reference

from resqued.plugins.errors import describe

PRIVATE: Final = "resqued_cron_"
"""What the names of modules begin with that are loaded from a file no name leads to."""

_ELSEWHERE: Final = {
    "__main__": "the program that was started",
    "__mp_main__": "the program that was started",
    "resqued_conf": "the config file",
}


@dataclass(frozen=True)
class Reference:
    """A function's dotted name; or the name of a method, and its object."""

    name: str
    instance: Any = None

    @property
    def label(self) -> str:
        """The dotted name, of a method with that of its class."""
        if self.instance is None:
            return self.name
        owner = self.instance if inspect.isclass(self.instance) else type(self.instance)
        return f"{owner.__module__}.{owner.__qualname__}.{self.name}"


def refer(func: Callable[..., Any] | str) -> Reference:
    """As RQ would name it. Imports it by this name. Raises ValueError if that cannot be."""
    try:
        instance, name = resolve_function_reference(func)
    except TypeError:
        raise ValueError(
            f"func={func!r} is neither a function nor a dotted name; write myapp.tasks.clean"
        ) from None
    reference = Reference(name, instance)
    _check_home(reference)
    if instance is None:
        check_name(name)
    return reference


def check_name(name: str) -> str:
    """The dotted name as it was given. Raises ValueError if it leads to no function."""
    _check_home(Reference(name))
    if "." not in name or not all(name.split(".")) or name.split() != [name]:
        raise ValueError(f"{name!r} is not the dotted name of a function; write myapp.tasks.clean")
    try:
        found = import_attribute(name)
    except (Exception, SystemExit) as error:
        raise ValueError(f"function {name!r} cannot be imported: {_reason(name, error)}") from error
    if not callable(found):
        raise ValueError(f"{name!r} is a {type(found).__name__} and cannot be called")
    return name


def _check_home(reference: Reference) -> None:
    """Raises ValueError for what is known under this name in this process only."""
    label = reference.label
    if "<lambda>" in label:
        raise ValueError(f"{label} is a lambda, and a worker imports functions by name; def it")
    if "<locals>" in label:
        raise ValueError(
            f"{label} is defined in a function, and a worker imports functions by name; define it"
            " at the top level of a module"
        )
    module = label.partition(".")[0]
    home = _ELSEWHERE.get(module)
    if module.startswith(PRIVATE):
        home = "a file that is no module on the path"
    if home is not None:
        raise ValueError(
            f"{label} is defined in {home}, where a worker cannot import it; define it in a module"
            " of the application (--path DIR is where modules are looked for)"
        )


def _reason(name: str, error: BaseException) -> str:
    """RQ passes over an ImportError within the module: look where the import ends."""
    parts = name.split(".")
    for length in range(1, len(parts)):
        module = ".".join(parts[:length])
        try:
            found = importlib.import_module(module)
        except (Exception, SystemExit) as inner:
            return describe(inner)
        if hasattr(found, parts[length]):
            continue
        try:
            importlib.import_module(".".join(parts[: length + 1]))
        except ModuleNotFoundError as inner:
            if inner.name == ".".join(parts[: length + 1]):
                return f"module {module!r} has no {parts[length]!r}"
            return describe(inner)
        except (Exception, SystemExit) as inner:
            return describe(inner)
    return describe(error)
