"""The URL of the server: checked, made from RQ's settings, taken apart where it names sentinels.

`redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/SERVICE/DB?OPTION=VALUE` is a service that
sentinels watch over. User, password and options are for the master; options that begin with
`sentinel_` are for the sentinels (`sentinel_username`, `sentinel_password`, `sentinel_ssl`).
`rediss+sentinel` is TLS with both.

Nothing here connects, imports redis, or repeats a value in a message: a password may be in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode

SENTINEL_SCHEMES: Final = ("redis+sentinel", "rediss+sentinel")

SENTINEL_PORT: Final = 26379
"""Where a sentinel listens if nothing else is said."""

_FORM: Final = "redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB"
_PREFIX: Final = "sentinel_"
_HOST: Final = re.compile(r"(\[[0-9a-fA-F:.%]+\]|[^:\[\]/]+)(?::([0-9]{1,5}))?")
_KNOWN: Final = {
    *("INSTANCES", "MASTER_NAME", "DB", "USERNAME", "PASSWORD", "SOCKET_TIMEOUT", "SSL"),
    *("CONNECTION_KWARGS", "SENTINEL_KWARGS"),
}


@dataclass(frozen=True)
class SentinelService:
    """What the URL of a service that sentinels watch over says."""

    sentinels: tuple[tuple[str, int], ...]  # host and port
    name: str
    db: int = 0
    username: str | None = None
    password: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)  # of connections to the master
    sentinel_options: Mapping[str, str] = field(default_factory=dict)  # to the sentinels


def is_sentinel(url: str) -> bool:
    """Whether the URL names a service that sentinels watch over."""
    return url.partition("://")[0] in SENTINEL_SCHEMES


def parse_sentinel(url: str) -> SentinelService:
    """Take such a URL apart. Raises ValueError."""
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
    return SentinelService(
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
        yield unquote(match[1].strip("[]")), int(match[2] or SENTINEL_PORT)


def sentinel_url(settings: Mapping[str, Any]) -> str:
    """The URL for the SENTINEL of RQ's settings module, with RQ's defaults.

    `{"INSTANCES": [("localhost", 26379)], "MASTER_NAME": "main", "DB": 0, "USERNAME": ...,
    "PASSWORD": ..., "SOCKET_TIMEOUT": ..., "SSL": False, "CONNECTION_KWARGS": {},
    "SENTINEL_KWARGS": {}}`. Raises ValueError.
    """
    if unknown := sorted(set(map(str, settings)) - _KNOWN):
        raise ValueError(f"{', '.join(unknown)}: not among RQ's SENTINEL settings")
    hosts = ",".join(_instances(settings.get("INSTANCES", [("localhost", SENTINEL_PORT)])))
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
    url = f"{SENTINEL_SCHEMES[0]}://{credentials}{hosts}/{service}/{db or 0}"
    url += f"?{urlencode(query)}" if query else ""
    parse_sentinel(url)
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


SCHEMES: Final = ("redis", "rediss", "unix")

_PORT: Final = re.compile(r"(?:\[[0-9a-fA-F:.%]+\]|[^:\[\]]*)(?::([0-9]{1,5}))?")
_BARE_IPV6: Final = re.compile(r"[0-9a-fA-F]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*(%[^:]+(:[0-9]+)?)?")

TLS: Final = ("ssl_ca_certs", "ssl_cert_reqs", "ssl_ca_data", "ssl_keyfile", "ssl_certfile")
"""RQ's settings for TLS by redis-py's names; RQ's are REDIS_ and these in upper case."""


def read_url(text: str) -> str:
    """Strip white space (`echo` adds a line break to a secret), make the scheme lower case, check.

    Raises ValueError.
    """
    scheme, separator, rest = text.strip().partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in (*SCHEMES, *SENTINEL_SCHEMES):
        raise ValueError(
            "not the URL of a Redis; write redis://HOST:PORT/DB or unix:///PATH, with Sentinel"
            " redis+sentinel://HOST:PORT/SERVICE/DB"
        )
    url = f"{scheme}://{rest}"
    if any(char.isspace() or not char.isprintable() for char in rest):
        raise ValueError("a blank or a control character is in it; write a blank as %20")
    if scheme in SENTINEL_SCHEMES:
        parse_sentinel(url)
        return url
    if scheme == "unix":
        if not rest.partition("?")[0].rpartition("@")[2].startswith("/"):
            raise ValueError("the path of a unix socket is absolute; write unix:///PATH")
    else:
        _check_authority(rest)
    _check_query(rest.partition("?")[2])
    return url


def _check_authority(rest: str) -> None:
    """Check host, port and database in what follows `redis://`. Raises ValueError."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    path = rest[len(authority) :].partition("?")[0].partition("#")[0]
    if "@" in path:
        raise ValueError("write the password's special characters encoded: / is %2F, # is %23")
    host = authority.rpartition("@")[2]
    if "[" not in host and _BARE_IPV6.fullmatch(host):
        raise ValueError("an IPv6 address stands in brackets; write redis://[::1]:6379")
    port = _PORT.fullmatch(host)
    if port is None or int(port[1] or 0) > 65535:
        raise ValueError("its port is not a number up to 65535 (or a password is not encoded)")
    _check_database(path.strip("/"))


def _check_database(text: str) -> None:
    if text and not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError("its database is no number; write redis://HOST:PORT/0")


def _check_query(query: str) -> None:
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "db":
            _check_database(value)


NAMES: Final = ("REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_PASSWORD", "REDIS_SSL")
"""RQ's settings of a server, which count where there is no REDIS_URL."""


def make_url(given: Mapping[str, Any]) -> str:
    """The URL of the server to which RQ connects with these settings (NAMES and TLS).

    Read as `rq.cli.helpers.get_redis_from_config` does. Raises ValueError.
    """
    tls = _is_yes("REDIS_SSL", given.get("REDIS_SSL", False))
    host = str(given.get("REDIS_HOST", "localhost"))
    port = str(given.get("REDIS_PORT", 6379))
    if not re.fullmatch(r"[0-9]{1,5}", port):
        raise ValueError("REDIS_PORT is not a number up to 65535")
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    password = given.get("REDIS_PASSWORD")
    user = "" if password is None else f":{quote(str(password), safe='')}@"
    names = {name: f"REDIS_{name.upper()}" for name in TLS} if tls else {}
    query = {ours: str(given[theirs]) for ours, theirs in names.items() if theirs in given}
    tail = f"?{urlencode(query)}" if query else ""
    scheme = "rediss" if tls else "redis"
    return read_url(f"{scheme}://{user}{host}:{port}/{given.get('REDIS_DB', 0)}{tail}")


def _is_yes(name: str, value: Any) -> bool:
    """As RQ reads its switches. Raises ValueError."""
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word in ("y", "yes", "t", "true", "1"):
        return True
    if word in ("n", "no", "f", "false", "", "0"):
        return False
    raise ValueError(f"{name} is neither True nor False")
