"""Plain values: what passes the channel to the fork servers as JSON and comes out the same.

`resqued` itself imports this, so it imports nothing that a file in the working directory could
stand in for.
"""

from __future__ import annotations

from typing import Any


def is_plain(value: Any) -> bool:
    """Whether it is text, a number, True, False, None, or a list, tuple or dict of them."""
    try:
        return _is_plain(value)
    except RecursionError:
        return False


def _is_plain(value: Any) -> bool:
    if isinstance(value, float):
        return value - value == 0.0  # neither infinite nor no number
    if isinstance(value, str | int | None):
        return True
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_plain(each) for name, each in value.items())
    return False


def as_tuples(value: Any) -> Any:
    """The same with tuples in the place of lists, as they are before and after the channel."""
    if isinstance(value, list | tuple):
        return tuple(map(as_tuples, value))
    if isinstance(value, dict):
        return {name: as_tuples(each) for name, each in value.items()}
    return value
