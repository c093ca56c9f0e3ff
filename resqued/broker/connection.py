"""Make the Redis client of a process from the settings.

Runs in workers, recoveries and stewards; each opens its connections after its fork.
"""

from __future__ import annotations

import copy
import inspect
import os
import re
import sys
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import redis
from rq.utils import import_attribute

from resqued.broker import sentinels
from resqued.broker.strict import ANSWER, make_strict
from resqued.config import Config
from resqued.logs import redact
from resqued.redis_url import is_sentinel
from resqued.verdicts import ConfigError

_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")


def answer_time(config: Config) -> float:
    """Seconds that a command may take: several must fit into one turn of a loop."""
    return min(ANSWER, config.loop_timeout / 4)


def make_connection(config: Config, name: str, level: str = "DEBUG") -> redis.Redis:
    """Make a client for this process. It connects at its first command.

    redis-py's own retries are off: it would repeat a command whose reply was lost, unnoticed, and a
    job claimed twice would be lost once. level: of the log line that names the sentinels' master.
    Raises ConfigError for a class or URL that cannot be used.
    """
    cls = load_class(config, "connection_class", import_attribute)
    try:
        if is_sentinel(config.redis):
            connection = sentinels.connect(config.redis, cls, answer_time(config), level)
        else:
            connection = cls.from_url(config.redis)
    except ValueError as error:
        raise ConfigError("redis", f"{redact(config.redis)}: {error}") from None
    make_strict(connection, name, answer_time(config))
    _check_parameters(connection)
    return connection


def renew(connection: redis.Redis) -> None:
    """Give a client a new connection pool, also for all that share the client. For use after an
    exception raised by a signal handler: it may have hit redis-py itself, with a reply half read or
    a lock held."""
    pool = copy.copy(connection.connection_pool)
    pool.reset()
    connection.connection_pool = pool


def abandon(connection: redis.Redis) -> None:
    """Like `renew`, but close no descriptor: the numbers may by now belong to other files."""
    pool: Any = connection.connection_pool
    for link in (*pool._available_connections, *pool._in_use_connections):
        if link._sock is not None:
            link._sock.detach()
            link._sock = None
    renew(connection)


def load_class(config: Config, setting: str, load: Callable[[str], Any]) -> Any:
    """Import the class that a setting names, also from `--path`. Raises ConfigError."""
    path = getattr(config, setting)
    for folder in config.path:
        if (absolute := os.path.abspath(folder)) not in sys.path:  # noqa: PTH100
            sys.path.append(absolute)
    try:
        return load(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            setting,
            f"{path!r} cannot be used: {error}",
            remedy="give the dotted path of a class that can be imported from here",
        ) from None


def _check_parameters(connection: redis.Redis) -> None:
    """Make a connection object as the pool would, without connecting. redis-py rejects an unknown
    parameter of a URL only when it connects. Raises ConfigError that names the parameter, and a
    similar one that exists."""
    pool = connection.connection_pool
    try:
        pool.connection_class(**pool.connection_kwargs)
    except TypeError as error:
        unexpected = _UNEXPECTED.search(str(error))
        if unexpected is None:
            raise
        name = unexpected[1]
        if name in _parameters_of(redis.SSLConnection):
            raise ConfigError(
                "redis",
                f"its URL has the parameter {name!r}, which only a connection with TLS takes",
                remedy="write rediss:// instead of redis://, or leave it out",
            ) from None
        close = get_close_matches(name, _parameters_of(pool.connection_class), n=1, cutoff=0.7)
        raise ConfigError(
            "redis",
            f"its URL has the parameter {name!r}, which no connection takes",
            remedy=f"did you mean {close[0]}?" if close else "leave it out",
        ) from None


def _parameters_of(cls: Any) -> list[str]:
    """Names of the parameters that a class and its bases take."""
    found: set[str] = set()
    for each in inspect.getmro(cls):
        init = vars(each).get("__init__")
        if init is not None:
            found.update(inspect.signature(init).parameters)
    return sorted(found - {"self", "args", "kwargs"})
