"""The core's state as JSON, for a re-exec: `restore(dump(state))` equals `state`."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import asdict, fields, is_dataclass
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from resqued.core.state import State
from resqued.scoreboard import Record

T = TypeVar("T")


def dump(state: State) -> dict[str, Any]:
    """Plain JSON. Times stay monotonic seconds: the clock goes on over an exec."""
    return asdict(state)


def restore(plain: dict[str, Any]) -> State:
    """Raises KeyError, TypeError or ValueError for a state that this version does not know."""
    return _make(State, plain)


def _make(cls: type[T], plain: dict[str, Any]) -> T:
    """An object of a dataclass, by the types of its fields."""
    types = get_type_hints(cls)
    unknown = set(plain) - {field.name for field in fields(cls)}  # type: ignore[arg-type]
    if unknown:
        raise ValueError(f"{cls.__name__} has no {', '.join(sorted(unknown))}")
    return cls(**{name: _decoder(types[name])(value) for name, value in plain.items()})


def _decoder(kind: Any) -> Callable[[Any], Any]:
    """What turns JSON into a value of this type."""
    arguments = get_args(kind)
    if get_origin(kind) is UnionType:  # `X | None`
        decode = _decoder(arguments[0])
        return lambda value: None if value is None else decode(value)
    if get_origin(kind) is tuple:  # `tuple[X, ...]`
        decode = _decoder(arguments[0])
        return lambda value: tuple(map(decode, value))
    if get_origin(kind) is dict:  # the keys of JSON are texts
        key, decode = arguments[0], _decoder(arguments[1])
        return lambda value: {key(name): decode(each) for name, each in value.items()}
    if kind is Record:
        return Record.from_plain
    if is_dataclass(kind):
        return lambda value: _make(kind, value)  # type: ignore[arg-type]
    if issubclass(kind, enum.Enum):
        return lambda value: kind(value)
    return lambda value: value
