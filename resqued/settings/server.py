"""The URL of the server, as people have it: checked, made from RQ's single settings.

Nothing here connects, imports redis, or repeats a value in a message: a password may be in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

from resqued.settings import sentinel

SCHEMES: Final = ("redis", "rediss", "unix")

_PORT: Final = re.compile(r"(?:\[[0-9a-fA-F:.%]+\]|[^:\[\]]*)(?::([0-9]{1,5}))?")
_BARE_IPV6: Final = re.compile(r"[0-9a-fA-F]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*(%[^:]+(:[0-9]+)?)?")

TLS: Final = ("ssl_ca_certs", "ssl_cert_reqs", "ssl_ca_data", "ssl_keyfile", "ssl_certfile")
"""What RQ's settings have of TLS, by redis-py's names; RQ's are the same in upper case."""


def read_url(text: str) -> str:
    """The URL without blanks around it, which secrets made by `echo` have, and its scheme in
    lower case. Raises ValueError that says what is wrong with it."""
    scheme, separator, rest = text.strip().partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in (*SCHEMES, *sentinel.SCHEMES):
        raise ValueError(
            "not the URL of a Redis; write redis://HOST:PORT/DB or unix:///PATH, with Sentinel"
            " redis+sentinel://HOST:PORT/SERVICE/DB"
        )
    url = f"{scheme}://{rest}"
    if any(char.isspace() or not char.isprintable() for char in rest):
        raise ValueError("a blank or a control character is in it; write a blank as %20")
    if scheme in sentinel.SCHEMES:
        sentinel.parse(url)
        return url
    if scheme == "unix":
        if not rest.partition("?")[0].rpartition("@")[2].startswith("/"):
            raise ValueError("the path of a unix socket is absolute; write unix:///PATH")
    else:
        _check_authority(rest)
    _check_query(rest.partition("?")[2])
    return url


def _check_authority(rest: str) -> None:
    """Host, port and database of what stands behind `redis://`."""
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
"""RQ's settings of a server, where there is no REDIS_URL."""


def make_url(given: Mapping[str, Any]) -> str:
    """The URL of the server that RQ would connect to with these settings, some of NAMES and TLS.

    As `rq.cli.helpers.get_redis_from_config` reads them. Raises ValueError.
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
