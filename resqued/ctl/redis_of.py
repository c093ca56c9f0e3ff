"""The Redis of an arbiter, for commands that read it themselves (`why`, `queue`, `fleet`).

The arbiter tells its settings on the scoreboard, which only its own user and root may open, so that
they are known also while its loop stands still. RQ and redis-py are imported only here, late.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resqued.config import Config
from resqued.exits import ExitCode
from resqued.logs.redaction import know, redact
from resqued.status.chosen import ChosenArbiter, NoArbiter
from resqued.verdicts import ConfigError


@dataclass(frozen=True)
class RedisSettings:
    """How to connect. url: with its password. path: folders to import the class from. prefix: of
    RQ's keys; empty: RQ's default."""

    url: str
    connection_class: str = "redis.Redis"
    path: tuple[str, ...] = ()
    prefix: str = ""

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return redact(self.url)


def redis_of(chosen: ChosenArbiter) -> RedisSettings:
    """What an arbiter tells of its Redis. Raises NoArbiter if it tells nothing."""
    told: Any = chosen.summary().get("redis")
    if not isinstance(told, Mapping) or not told.get("url"):
        who = f"pid {chosen.pid}" if chosen.pid else chosen.control
        raise NoArbiter(
            f"the arbiter, {who}, tells no Redis settings that this user and this version can read;"
            " give --url"
        )
    known: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in told.items()
        if name in RedisSettings.__dataclass_fields__
    }
    return RedisSettings(**known)


def connect(settings: RedisSettings, name: str) -> Any:
    """A client of this Redis; it connects at its first command. name: of the connection, as `CLIENT
    LIST` shows it. Raises NoArbiter for settings that cannot be used."""
    know(settings.url)
    if settings.prefix:
        os.environ["RQ_KEY_PREFIX"] = settings.prefix  # RQ reads it when it is imported
    from resqued.broker.connection import make_connection

    config = Config(
        redis=settings.url, connection_class=settings.connection_class, path=settings.path
    )
    try:
        return make_connection(config, name)
    except ConfigError as error:
        raise NoArbiter(redact(str(error)), ExitCode.USAGE) from None
