"""Insert resqued's class into the bases of a user's worker class: after the user's, before RQ's.

What the user's class overrides is called as under `rq worker`, and what it calls with `super()` is
resqued's. So resqued's names do not hide the user's; and since all of them but RQ's own are behind
`_resqued`, the user's hide none of resqued's.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, Final

from rq.version import VERSION
from rq.worker import BaseWorker

from resqued.verdicts import ConfigError

_PARTLY: Final = ("__init__", "kill_horse")
"""Methods that are not always called with all arguments that RQ's own take."""

_VARIABLE: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def insert_before_rq(cls: type, inserted: type) -> type:
    """Derive from `cls`, a worker class, with `inserted` right before RQ's first class among the
    bases. Raises TypeError for bases that Python cannot order."""
    metaclass: Any = type(
        "Between", (type(cls),), {"mro": functools.partialmethod(_order, cls, inserted)}
    )
    body = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    made: type = metaclass(cls.__name__, (cls,), body)
    return made


def _order(new: type, cls: type, inserted: type) -> list[type]:
    """The metaclass's `mro`."""
    theirs = list(cls.__mro__)
    place = next(at for at, each in enumerate(theirs) if is_of_rq(each))
    added = [each for each in inserted.__mro__ if each not in theirs]
    return [new, *theirs[:place], *added, *theirs[place:]]


def is_of_rq(cls: type) -> bool:
    return cls.__module__ == "rq" or cls.__module__.startswith("rq.")


def check_signatures(cls: type[BaseWorker], setting: str, keywords: Iterable[str]) -> None:
    """Refuse a class whose methods cannot be called as this version of RQ does. RQ 3 passes the
    execution to methods that had none in RQ 2. keywords: arguments of its `__init__`, besides the
    queues. Raises ConfigError, which names the method and its parameters."""
    for method, theirs in _overridden(cls):
        if method == "__init__":
            parameters = ["self", "queues", *keywords]
            missing = _missing(theirs, parameters[:2], parameters[2:])
        else:
            rq = inspect.signature(getattr(_original(cls), method))
            parameters = [
                name
                for name, parameter in rq.parameters.items()
                if parameter.kind not in _VARIABLE
                and (method not in _PARTLY or parameter.default is inspect.Parameter.empty)
            ]
            by_position = _missing(theirs, parameters, [])
            by_name = _missing(theirs, parameters[:1], parameters[1:])
            missing = by_name if by_position and by_name else ""
        if missing:
            raise ConfigError(
                setting,
                f"{cls.__module__}.{cls.__qualname__}.{method}{inspect.signature(theirs)} cannot be"
                f" called as RQ {VERSION} does it, with ({', '.join(parameters)}): {missing}",
                remedy="write it for RQ 3, or let it take *args and **kwargs and pass them on",
            )


def _overridden(cls: type) -> Iterable[tuple[str, Callable[..., Any]]]:
    """Methods that override one of RQ's, and are neither RQ's nor resqued's."""
    seen: set[str] = set()
    for each in cls.__mro__:
        if is_of_rq(each) or each is object:
            break
        for name, method in vars(each).items():
            dunder = name.startswith("__") and name != "__init__"
            if name in seen or dunder or each.__module__.startswith("resqued."):
                continue
            if inspect.isfunction(method) and inspect.isfunction(
                getattr(_original(cls), name, None)
            ):
                seen.add(name)
                yield name, method


def _original(cls: type) -> type:
    return next(each for each in cls.__mro__ if is_of_rq(each))


def _missing(method: Callable[..., Any], positional: list[str], named: Iterable[str]) -> str:
    """Why a method cannot be called so; empty if it can."""
    try:
        inspect.signature(method).bind(*positional, **dict.fromkeys(named))
    except TypeError as error:
        return str(error)
    return ""
