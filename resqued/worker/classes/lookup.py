"""Import and check the classes that a user may name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import redis
from rq.job import Job
from rq.queue import Queue
from rq.serializers import resolve_serializer
from rq.utils import import_attribute, import_job_class, import_queue_class, import_worker_class
from rq.worker import BaseWorker, SpawnWorker

from resqued.broker.connection import load_class, make_connection
from resqued.config import Config
from resqued.queue_words import forks
from resqued.verdicts import ConfigError
from resqued.worker.classes.mro import check_signatures, insert_before_rq
from resqued.worker.rq_worker import Foreign, InSlot, ResquedWorker

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


def inherit_log_level() -> None:
    """Make `rq.worker` use the log level of `rq`: RQ sets its own at import."""
    logging.getLogger("rq.worker").setLevel(logging.NOTSET)


def worker_class(config: Config) -> type[BaseWorker]:
    """The worker class that the user named. Raises ConfigError."""
    cls: type[BaseWorker] = load_class(config, "worker_class", import_worker_class)
    if issubclass(cls, SpawnWorker):
        raise ConfigError(
            "worker_class",
            f"{config.worker_class!r} is a SpawnWorker: it shows the Redis password in `ps`",
            remedy="take rq.Worker, or leave the setting out",
        )
    check_signatures(cls, "worker_class", _ARGUMENTS)
    return cls


def make_worker_class(config: Config) -> Any:
    """The class to run: the user's, with a slot mixed in if needed. Raises ConfigError."""
    cls = worker_class(config)
    check_isolation(config, cls)
    return cls if issubclass(cls, InSlot) else insert_before_rq(cls, Foreign)


def check_isolation(config: Config, cls: type[BaseWorker]) -> None:
    """Only resqued's way of running jobs can fork a child for each. Raises ConfigError."""
    if forks(config.isolation) and not issubclass(cls, ResquedWorker):
        raise ConfigError(
            "isolation",
            f"fork cannot be had with the worker class {config.worker_class!r}, which runs jobs its"
            " own way",
            remedy="leave one of the two out, or derive the class from"
            " resqued.worker.rq_worker.ResquedWorker",
        )


def worker_arguments(config: Config, name: str, connection: redis.Redis) -> dict[str, Any]:
    """Arguments of the worker class, besides its queues. Raises ConfigError."""
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
    cls: type[Job] = load_class(config, "job_class", import_job_class)
    return cls


def queue_class(config: Config) -> type[Queue]:
    """Raises ConfigError."""
    cls: type[Queue] = load_class(config, "queue_class", import_queue_class)
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
    """All errors of the classes and the URL, one text each; connects to nothing. For `--check`.
    Imports the classes, so it runs in a process of its own."""
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
        try:
            check_isolation(config, worker_class(config))
        except ConfigError as error:
            wrong.append(str(error))
    return wrong
