"""Connections without hidden retries, that leave a server which is not the master."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from resqued.broker.refusals import is_cured_by_connecting
from resqued.verdicts import ConfigError

try:
    from redis.driver_info import DriverInfo
except ImportError:  # an older redis-py
    DriverInfo = None  # type: ignore[assignment,misc]

ANSWER: Final = 10.0
"""Seconds that a command may take at most. No command of resqued blocks in Redis."""

_PIECE: Final = 65536  # bytes that are sent at once


def make_strict(connection: redis.Redis, name: str, answer: float = ANSWER) -> None:
    """Change a client: no hidden retries, a limit for each reply, a name in CLIENT LIST if Redis
    allows it.

    After a refusal that another server may not give (READONLY), the connection is made again at the
    next command. Drops open connections. answer: seconds. Raises ConfigError for a client that RQ
    cannot work with.
    """
    pool: Any = getattr(connection, "connection_pool", None)
    if pool is None:
        raise ConfigError(
            "connection_class",
            f"{type(connection).__name__} is no client of a single server",
            remedy="RQ needs all keys on one server; take redis.Redis",
        )
    settings = pool.connection_kwargs
    _refuse_decoding(settings)
    settings.update(
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
        retry_on_timeout=False,
        client_name=None,
        redis_connect_func=Greeting(name, settings.get("redis_connect_func")),
    )
    # Else each connection asks for notices of maintenance, which only Redis Enterprise sends, and
    # gets an error; after such a notice redis-py moves a connection to another server by itself.
    for name in ("maint_notifications_config", "maint_notifications_pool_handler"):
        settings.pop(name, None)
    if DriverInfo is not None:  # else each connection parses redis-py's metadata again
        settings.setdefault("driver_info", DriverInfo(lib_version=redis.__version__))
    pool._resqued_given = settings.get("socket_timeout")
    for limit in ("socket_timeout", "socket_connect_timeout"):
        given = settings.get(limit)
        settings[limit] = answer if given is None else min(given, answer)
    if not issubclass(pool.connection_class, _Strict):
        kind = pool.connection_class
        pool.connection_class = type(kind.__name__, (_Strict, kind), {"__module__": __name__})
    pool.disconnect()


def _refuse_decoding(settings: dict[str, Any]) -> None:
    """Raise ConfigError for `decode_responses`: RQ needs bytes, and would fail every job."""
    given = settings.get("decode_responses")
    if str(given).lower() in ("none", "false", "no", "0", "f", "n", ""):  # in a URL it is text
        settings["decode_responses"] = False
        return
    raise ConfigError(
        "redis",
        f"decode_responses={given} makes every job unreadable",
        remedy="leave decode_responses out of the URL, or of the connection class",
    )


class _Strict:
    """Mixed in before a connection class of redis-py."""

    _outworn = False

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().read_response(*args, **kwargs)  # type: ignore[misc]
        except RedisError as error:
            self.note_refusal(error)
            raise

    def note_refusal(self, error: RedisError) -> None:
        """Note an error reply."""
        if getattr(self, "_sock", None) is not None:  # redis-py may have dropped it
            self._outworn = self._outworn or is_cured_by_connecting(error)

    def send_packed_command(self, *args: Any, **kwargs: Any) -> Any:
        """Reconnect if a refusal was noted, and send. Not at the refusal itself: further replies of
        a pipeline may be on their way."""
        if self._outworn:
            self.disconnect()
        if args and isinstance(args[0], list):
            args = (_in_pieces(args[0]), *args[1:])
        return super().send_packed_command(*args, **kwargs)  # type: ignore[misc]

    def disconnect(self, *args: Any, **kwargs: Any) -> None:
        self._outworn = False
        super().disconnect(*args, **kwargs)  # type: ignore[misc]


def _in_pieces(buffers: list[Any]) -> list[Any]:
    """Split large data. The socket's timeout holds for each send: a large result sent as one piece
    would time out on a slow connection, however steadily it moves."""
    if all(len(each) <= _PIECE for each in buffers):
        return buffers
    return [
        memoryview(each)[at : at + _PIECE] for each in buffers for at in range(0, len(each), _PIECE)
    ]


class Greeting:
    """What a new connection sends first: its name, which may fail. given: called before."""

    def __init__(self, name: str, given: Callable[[Any], Any] | None) -> None:
        # CLIENT SETNAME takes what is printable in ASCII and no blank.
        self.name = "".join(sign if "!" <= sign <= "~" else "_" for sign in name)
        self._given: Callable[[Any], Any] | None = given
        if isinstance(given, Greeting):
            self._given = given._given

    def __call__(self, link: Any) -> None:
        self.without_name(link)
        link.send_command("CLIENT", "SETNAME", self.name, check_health=False)
        try:
            link.read_response()
        except ResponseError:
            return  # forbidden, or a proxy that does not know it

    def without_name(self, link: Any) -> None:
        """Greet without the name, for a caller that sends the name itself."""
        if self._given is not None:
            self._given(link)
        elif hasattr(link, "on_connect_check_health"):
            link.on_connect_check_health(check_health=False)  # a PING before AUTH is refused
        else:  # an older redis-py
            link.on_connect()


def given_timeout(pool: Any) -> float | None:
    """The `socket_timeout` of the URL, before `make_strict`; None: none."""
    return getattr(pool, "_resqued_given", None)
