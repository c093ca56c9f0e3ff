"""Plain values: what passes the channel to the fork servers as JSON and comes out the same."""

from __future__ import annotations

import json
from typing import Any


def is_plain(value: Any) -> bool:
    """Whether it is text, a number, True, False, None, or a list, tuple or dict of them."""
    try:
        as_json = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return False
    return bool(as_tuples(as_json) == as_tuples(value))


def as_tuples(value: Any) -> Any:
    """The same with tuples in the place of lists, as they are before and after the channel."""
    if isinstance(value, list | tuple):
        return tuple(map(as_tuples, value))
    if isinstance(value, dict):
        return {name: as_tuples(each) for name, each in value.items()}
    return value
