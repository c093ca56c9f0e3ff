"""Parameters of a URL that no connection takes; redis-py only finds out when it connects."""

from __future__ import annotations

import inspect
import re
from difflib import get_close_matches
from typing import Any

import redis

from resqued.verdicts import ConfigError

_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")


def check(connection: redis.Redis) -> None:
    """Make a connection as the pool would, without connecting.

    Raises ConfigError that names a parameter which is not known, and the one that was meant.
    """
    pool = connection.connection_pool
    try:
        pool.connection_class(**pool.connection_kwargs)
    except TypeError as error:
        unexpected = _UNEXPECTED.search(str(error))
        if unexpected is None:
            raise
        name = unexpected[1]
        if name in _known(redis.SSLConnection):
            raise ConfigError(
                "redis",
                f"its URL has the parameter {name!r}, which only a connection with TLS takes",
                remedy="write rediss:// instead of redis://, or leave it out",
            ) from None
        close = get_close_matches(name, _known(pool.connection_class), n=1, cutoff=0.7)
        raise ConfigError(
            "redis",
            f"its URL has the parameter {name!r}, which no connection takes",
            remedy=f"did you mean {close[0]}?" if close else "leave it out",
        ) from None


def _known(cls: Any) -> list[str]:
    """Names that the class and those it inherits from take."""
    found: set[str] = set()
    for each in inspect.getmro(cls):
        init = vars(each).get("__init__")
        if init is not None:
            found.update(inspect.signature(init).parameters)
    return sorted(found - {"self", "args", "kwargs"})
