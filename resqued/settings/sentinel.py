"""The address of a service that sentinels watch over, as a URL and as RQ's settings have it.

`redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/SERVICE/DB?OPTION=VALUE`. User, password and
options are for the master; options that begin with `sentinel_` are for the sentinels themselves
(`sentinel_username`, `sentinel_password`, `sentinel_ssl`). `rediss+sentinel` is TLS with both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode

SCHEMES: Final = ("redis+sentinel", "rediss+sentinel")

PORT: Final = 26379
"""Where a sentinel listens if nothing else is said."""

_FORM: Final = "redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB"
_PREFIX: Final = "sentinel_"
_HOST: Final = re.compile(r"(\[[0-9a-fA-F:.%]+\]|[^:\[\]/]+)(?::([0-9]{1,5}))?")
_KNOWN: Final = {
    *("INSTANCES", "MASTER_NAME", "DB", "USERNAME", "PASSWORD", "SOCKET_TIMEOUT", "SSL"),
    *("CONNECTION_KWARGS", "SENTINEL_KWARGS"),
}


@dataclass(frozen=True)
class Service:
    """What such a URL says."""

    sentinels: tuple[tuple[str, int], ...]  # host and port
    name: str
    db: int = 0
    username: str | None = None
    password: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)  # of connections to the master
    sentinel_options: Mapping[str, str] = field(default_factory=dict)  # to the sentinels


def is_sentinel(url: str) -> bool:
    """Whether the URL names a service that sentinels watch over."""
    return url.partition("://")[0] in SCHEMES


def parse(url: str) -> Service:
    """Raises ValueError, which never repeats the value: a password may be in it."""
    scheme, _, rest = url.partition("://")
    rest, _, query = rest.partition("?")
    credentials, at, rest = rest.rpartition("@")
    hosts, _, path = rest.partition("/")
    name, _, db = path.partition("/")
    if not name:
        raise ValueError(f"it names no service; write {_FORM}")
    user, _, password = credentials.partition(":") if at else ("", "", "")
    options = dict(parse_qsl(query, keep_blank_values=True))
    db = options.pop("db", "") or db.strip("/") or "0"
    if not db.isdecimal():
        raise ValueError(f"its database is no number; write {_FORM}")
    if scheme == "rediss+sentinel":
        options = {"ssl": "true", f"{_PREFIX}ssl": "true", **options}
    return Service(
        sentinels=tuple(_addresses(hosts)),
        name=unquote(name),
        db=int(db),
        username=unquote(user) or options.pop("username", None),
        password=unquote(password) or options.pop("password", None),
        options={key: value for key, value in options.items() if not key.startswith(_PREFIX)},
        sentinel_options={
            key.removeprefix(_PREFIX): value
            for key, value in options.items()
            if key.startswith(_PREFIX)
        },
    )


def _addresses(hosts: str) -> Iterable[tuple[str, int]]:
    for host in hosts.split(","):
        match = _HOST.fullmatch(host.strip())
        if match is None or int(match[2] or 0) > 65535:
            raise ValueError(f"one of its sentinels is not HOST:PORT; write {_FORM}")
        yield unquote(match[1].strip("[]")), int(match[2] or PORT)


def from_rq(settings: Mapping[str, Any]) -> str:
    """The URL for what RQ's settings modules have as SENTINEL, with RQ's defaults.

    `{"INSTANCES": [("localhost", 26379)], "MASTER_NAME": "main", "DB": 0, "USERNAME": ...,
    "PASSWORD": ..., "SOCKET_TIMEOUT": ..., "SSL": False, "CONNECTION_KWARGS": {},
    "SENTINEL_KWARGS": {}}`. Raises ValueError.
    """
    if unknown := sorted(set(map(str, settings)) - _KNOWN):
        raise ValueError(f"{', '.join(unknown)}: not among RQ's SENTINEL settings")
    hosts = ",".join(_instances(settings.get("INSTANCES", [("localhost", PORT)])))
    options = {
        "db": settings.get("DB", 0),
        "username": settings.get("USERNAME"),
        "password": settings.get("PASSWORD"),
        "socket_timeout": settings.get("SOCKET_TIMEOUT"),
        "ssl": settings.get("SSL", False),
        **_mapping(settings, "CONNECTION_KWARGS"),
    }
    db, user, password = (options.pop(name, None) for name in ("db", "username", "password"))
    query = {
        **{
            name: _plain(name, value)
            for name, value in options.items()
            if value not in (None, False)
        },
        **{
            f"{_PREFIX}{name}": _plain(name, value)
            for name, value in _mapping(settings, "SENTINEL_KWARGS").items()
            if value is not None
        },
    }
    credentials = ""
    if user or password:
        credentials = f"{quote(str(user or ''), safe='')}:{quote(str(password or ''), safe='')}@"
    service = quote(str(settings.get("MASTER_NAME", "mymaster")), safe="")
    url = f"{SCHEMES[0]}://{credentials}{hosts}/{service}/{db or 0}"
    url += f"?{urlencode(query)}" if query else ""
    parse(url)
    return url


def _instances(given: Any) -> Iterable[str]:
    try:
        pairs = [(str(host), int(port)) for host, port in given]
    except (TypeError, ValueError):
        raise ValueError('INSTANCES is not a list of ("HOST", PORT)') from None
    for host, port in pairs:
        yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _mapping(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = settings.get(name) or {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is not a dict")
    return dict(value)


def _plain(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError(f"{name} is neither text nor a number, which is all that a URL can hold")
