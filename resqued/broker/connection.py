"""Connections to Redis, and what a process does while it does not answer."""

from __future__ import annotations

import copy
import os
import random
import sys
import time
from collections.abc import Callable
from math import inf
from typing import Any, ClassVar, Final, TypeVar

import redis
from redis.exceptions import RedisError
from rq.utils import import_attribute

from resqued.broker import parameters, sentinels, tls
from resqued.broker.refusals import Diagnosis, diagnose
from resqued.broker.strict import ANSWER, make_strict
from resqued.config import Config
from resqued.logs import logger, redact
from resqued.settings.sentinel import is_sentinel
from resqued.verdicts import ConfigError

T = TypeVar("T")

_LONGEST: Final = 2.0  # seconds between two attempts
_REFUSED: Final = 15.0  # the same, while Redis refuses us: nothing but a human will help
_REPEAT: Final = 60.0  # seconds between two log lines about one outage

NO_ANSWER: Final = (RedisError, ConnectionError, TimeoutError)
"""What a command raises when it was not, or may not have been, carried out."""


def answer_time(config: Config) -> float:
    """Seconds that a command may take: several have to fit into a turn of a loop."""
    return min(ANSWER, config.loop_timeout / 4)


def make_connection(config: Config, name: str, level: str = "DEBUG") -> redis.Redis:
    """A client of this process's own. Connects at its first command.

    Without redis-py's retries: a command whose reply is lost would be sent again behind our
    back, and a job taken twice would be lost once.
    level: of the log line that names the master, where sentinels do.
    Raises ConfigError for a class or URL that cannot be.
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
    parameters.check(connection)
    return connection


def renew(connection: redis.Redis) -> None:
    """Give a client, and with it all that hold it, a fresh pool.

    For after a cut: the exception may have hit redis-py itself, with a reply half read or a
    lock held.
    """
    pool = copy.copy(connection.connection_pool)
    pool.reset()
    connection.connection_pool = pool


def abandon(connection: redis.Redis) -> None:
    """Like `renew`, when the sockets' descriptors may have become somebody else's: close none."""
    pool: Any = connection.connection_pool
    for link in (*pool._available_connections, *pool._in_use_connections):
        if link._sock is not None:
            link._sock.detach()
            link._sock = None
    renew(connection)


class Outage:
    """One stretch of time without Redis, as one loop lives through it: back-off, a thin log."""

    _explained: ClassVar[dict[str, float]] = {}  # kind of error, when this process has last met it

    def __init__(
        self,
        config: Config,
        sleep: Callable[[float], None] = time.sleep,
        *,
        quiet: bool = False,
    ) -> None:
        """quiet: to be told only to who wants to know everything."""
        self._url = config.redis
        self._longest = config.loop_timeout / 4
        self._sleep = sleep
        self._quiet = quiet
        self._began = 0.0
        self._told = 0.0
        self._for_a_person = False  # what was told last
        self._pause = 0.05

    def wait(self, error: BaseException) -> None:
        """Tell of it at first and then once a minute; sleep a little longer each time."""
        now = time.monotonic()
        if not self._began:
            self._began = now
        diagnosis = diagnose(error)
        explained = self._is_explained(diagnosis.kind, now)
        if self._is_due(diagnosis, now):
            self._told, self._for_a_person = now, diagnosis.for_a_person
            if not diagnosis.kind:
                diagnosis = tls.diagnose(self._url, error, min(1.0, self._longest / 4)) or diagnosis
            level = "DEBUG" if self._quiet else diagnosis.level
            text = diagnosis.brief if explained else diagnosis.text
            logger.log(level, f"redis {redact(self._url)} {text}")
        self._pause = _REFUSED if diagnosis.for_a_person else min(self._pause * 2, _LONGEST)
        # Not all at once: a server that comes back is met by every worker of every machine.
        self._sleep(min(self._pause, self._longest) * random.uniform(0.6, 1.0))

    def _is_explained(self, kind: str, now: float) -> bool:
        """Whether the remedy has been told lately: a worker lives through one failover in several
        places."""
        if not kind:
            return False
        met = self._explained.get(kind, -inf)
        self._explained[kind] = now
        return now < met + _REPEAT

    def _is_due(self, diagnosis: Diagnosis, now: float) -> bool:
        """Whether the log has to be told: at the beginning of each outage, then once a minute."""
        news = diagnosis.for_a_person and not self._for_a_person
        return news or not self._told or now >= self._told + _REPEAT

    @property
    def lasts(self) -> bool:
        """Redis has not answered since it last failed to."""
        return self._began > 0

    def over(self) -> None:
        """Redis has answered."""
        if self._began:
            away = time.monotonic() - self._began
            level = "DEBUG" if self._quiet else "INFO"
            logger.log(level, f"redis answers again after {away:.1f} s")
        self._began = self._told = 0.0
        self._for_a_person = False
        self._pause = 0.05


def until_answered(call: Callable[[], T], outage: Outage, turn: Callable[[], None]) -> T:
    """Call until Redis has answered; the answer. turn: called after each failure."""
    while True:
        try:
            answer = call()
        except NO_ANSWER as error:
            outage.wait(error)
            turn()
        else:
            outage.over()
            return answer


def load_class(config: Config, setting: str, load: Callable[[str], Any]) -> Any:
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
