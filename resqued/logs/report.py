"""Log a fact of resqued: text for people, an event and its fields for machines.

The fields are those of the event in `log_events`; they are in the text too, unless only machines
need them. An exception is no field: `exception` logs the one that is handled.
"""

from __future__ import annotations

from typing import Any

from resqued.log_events import LogEvent
from resqued.logs.sources import logger


def at(level: str, text: str, event: LogEvent | None, **fields: Any) -> None:
    """A line of any level. May be called in any process and thread; never raises."""
    logger.opt(depth=1).bind(event=event, **fields).log(level, text)


def debug(text: str, event: LogEvent | None = None, **fields: Any) -> None:
    """As `at`, with the level DEBUG."""
    logger.opt(depth=1).bind(event=event, **fields).debug(text)


def info(text: str, event: LogEvent, **fields: Any) -> None:
    """As `at`, with the level INFO."""
    logger.opt(depth=1).bind(event=event, **fields).info(text)


def warning(text: str, event: LogEvent, **fields: Any) -> None:
    """As `at`, with the level WARNING."""
    logger.opt(depth=1).bind(event=event, **fields).warning(text)


def error(text: str, event: LogEvent, **fields: Any) -> None:
    """As `at`, with the level ERROR."""
    logger.opt(depth=1).bind(event=event, **fields).error(text)


def critical(text: str, event: LogEvent, **fields: Any) -> None:
    """As `at`, with the level CRITICAL."""
    logger.opt(depth=1).bind(event=event, **fields).critical(text)


def exception(text: str, event: LogEvent, **fields: Any) -> None:
    """As `error`, with the traceback of the exception that is handled."""
    logger.opt(depth=1, exception=True).bind(event=event, **fields).error(text)
