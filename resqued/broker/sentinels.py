"""Connect to the master that sentinels name; they are asked at each new connection."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from resqued import logs
from resqued.logs import LogEvent
from resqued.redis_url import parse_sentinel


def connect(url: str, cls: type[redis.Redis], answer: float, level: str) -> redis.Redis:
    """A client of the master. Connects at its first command. answer: seconds that all sentinels
    together may take. level: of the log line that names the first master; changes are logged at
    INFO. Raises ValueError."""
    service = parse_sentinel(url)
    patience = answer / (2 * len(service.sentinels))
    limits = {"socket_timeout": patience, "socket_connect_timeout": patience}
    login = {"username": service.username, "password": service.password}
    try:
        watch = SentinelWatch(
            service.sentinels,
            sentinel_kwargs={
                **limits,
                **_typed(service.sentinel_options),
                "retry": Retry(NoBackoff(), 0),
            },
            **{**_typed(service.options), **login, "db": service.db},
        )
    except TypeError as error:
        raise ValueError(f"of the options that begin with sentinel_: {error}") from None
    watch.level = level
    client: redis.Redis = watch.master_for(service.name, redis_class=cls)
    return client


class SentinelWatch(Sentinel):
    """The sentinels of one service, with the master that they named last."""

    level = "DEBUG"
    _master: tuple[str, int] | None = None

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Host and port. Raises redis errors."""
        try:
            master: tuple[str, int] = super().discover_master(service_name)
        except MasterNotFoundError as error:
            raise self._explained(service_name, str(error)) from None
        if master != self._master:
            logs.at(
                "INFO" if self._master else self.level,
                f"redis master of {service_name} is {master[0]}:{master[1]}",
                LogEvent.REDIS_NOTICE,
            )
            self._master = master
        return master

    def _explained(self, service: str, text: str) -> RedisError:
        asked = [each.connection_pool.connection_kwargs for each in self.sentinels]
        names = ", ".join(f"{each['host']}:{each['port']}" for each in asked)
        if "AuthenticationError" in text:
            return AuthenticationError(
                f"the sentinels {names} want a login: add sentinel_username and sentinel_password"
                " to the URL's options"
            )
        known = sorted({name for each in self.sentinels for name in _services(each)})
        if known and service not in known:
            return MasterNotFoundError(
                f"the sentinels {names} know no service {service!r}, but {', '.join(known)}"
            )
        return MasterNotFoundError(
            f"the sentinels {names} know no master of {service!r} that is up"
        )


def _services(one: redis.Redis) -> list[str]:
    try:
        return [str(name) for name in one.sentinel_masters()]
    except RedisError:
        return []


def _typed(options: Any) -> dict[str, Any]:
    """Options of a URL, converted as redis-py's connections need them. Raises ValueError."""
    typed: dict[str, Any] = parse_url(f"redis://?{urlencode(options)}")
    if "ssl" in typed:
        typed["ssl"] = str(typed["ssl"]).lower() in ("true", "yes", "1", "t", "y", "on")
    return typed
