"""Connections to Redis, and the classes a user may name: found, checked, made."""

from __future__ import annotations

import copy
import logging
import os
import random
import sys
import time
from collections.abc import Callable
from math import inf
from typing import Any, ClassVar, Final, TypeVar

import redis
from redis.exceptions import RedisError
from rq.job import Job
from rq.queue import Queue
from rq.serializers import resolve_serializer
from rq.utils import import_attribute, import_job_class, import_queue_class, import_worker_class
from rq.worker import BaseWorker, SpawnWorker

from resqued.config import Config
from resqued.logs import logger, redact
from resqued.settings.sentinel import is_sentinel
from resqued.verdicts import ConfigError
from resqued.worker import parameters, sentinels, tls
from resqued.worker.between import check_signatures
from resqued.worker.refusals import Diagnosis, diagnose
from resqued.worker.strict import ANSWER, make_strict

T = TypeVar("T")

_LONGEST: Final = 2.0  # seconds between two attempts
_REFUSED: Final = 15.0  # the same, while Redis refuses us: nothing but a human will help
_REPEAT: Final = 60.0  # seconds between two log lines about one outage

_ARGUMENTS: Final = (
    "name",
    "connection",
    "default_result_ttl",
    "exception_handlers",
    "disable_default_exception_handler",
    "maintenance_interval",
    "worker_ttl",
    "job_class",
    "queue_class",
    "serializer",
)

NO_ANSWER: Final = (RedisError, ConnectionError, TimeoutError)
"""What a command raises when it was not, or may not have been, carried out."""


def inherit_log_level() -> None:
    """RQ fixes the level of `rq.worker` at import; from here on that of `rq` counts."""
    logging.getLogger("rq.worker").setLevel(logging.NOTSET)


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
    cls = _load(config, "connection_class", import_attribute)
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


def _load(config: Config, setting: str, load: Callable[[str], Any]) -> Any:
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


def worker_class(config: Config) -> type[BaseWorker]:
    """The worker class as the user named it. Raises ConfigError."""
    cls: type[BaseWorker] = _load(config, "worker_class", import_worker_class)
    if issubclass(cls, SpawnWorker):
        raise ConfigError(
            "worker_class",
            f"{config.worker_class!r} is a SpawnWorker: it shows the Redis password in `ps`",
            remedy="take rq.Worker, or leave the setting out",
        )
    check_signatures(cls, "worker_class", _ARGUMENTS)
    return cls


def worker_arguments(config: Config, name: str, connection: redis.Redis) -> dict[str, Any]:
    """What the worker class is called with, beside its queues. Raises ConfigError."""
    values = (
        name,
        connection,
        config.results_ttl,
        exception_handlers(config),
        config.disable_default_exception_handler,
        config.maintenance_interval,
        config.worker_ttl,
        job_class(config),
        queue_class(config),
        config.serializer,
    )
    return dict(zip(_ARGUMENTS, values, strict=True))


def job_class(config: Config) -> type[Job]:
    """Raises ConfigError."""
    cls: type[Job] = _load(config, "job_class", import_job_class)
    return cls


def queue_class(config: Config) -> type[Queue]:
    """Raises ConfigError."""
    cls: type[Queue] = _load(config, "queue_class", import_queue_class)
    return cls


def serializer(config: Config) -> Any:
    """Raises ConfigError."""
    try:
        return resolve_serializer(config.serializer)
    except (ImportError, AttributeError, ValueError, NotImplementedError) as error:
        raise ConfigError(
            "serializer",
            f"{config.serializer!r} cannot be used: {error}",
            remedy="write json, pickle or the dotted path of an object with dumps and loads",
        ) from None


def exception_handlers(config: Config) -> list[Callable[..., Any]]:
    """Raises ConfigError."""
    handlers: list[Callable[..., Any]] = []
    for path in config.exception_handlers:
        try:
            handlers.append(import_attribute(path))
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError("exception_handlers", f"{path!r}: {error}") from None
    return handlers


def check_classes(config: Config) -> list[str]:
    """All that is wrong with the classes and the URL, one text each; nothing is connected to.

    For `--check`. Imports the classes, so it runs in a process of its own.
    """
    wrong: list[str] = []
    checks: tuple[Callable[[Config], object], ...] = (
        lambda config: make_connection(config, "resqued-check"),
        worker_class,
        job_class,
        queue_class,
        serializer,
        exception_handlers,
    )
    for check in checks:
        try:
            check(config)
        except ConfigError as error:
            wrong.append(str(error))
    if not wrong:
        from resqued.worker.foreign import check_isolation

        try:
            check_isolation(config, worker_class(config))
        except ConfigError as error:
            wrong.append(str(error))
    return wrong
