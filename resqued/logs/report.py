"""Log a fact of resqued: text for people, an event and its fields for machines.

The fields are those of the event in `log_events`; they are in the text too, unless only machines
need them. An exception is no field: `exception` logs the one that is handled.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from resqued.log_events import LogEvent
from resqued.logs.sources import logger

Listener = Callable[[str, str, LogEvent, Mapping[str, Any]], None]
"""Is told the level, the text, the event and its fields."""

_listeners: list[Listener] = []


def listen(listener: Listener) -> None:
    """Have each event of this process told to this listener alone, whatever the level of the log.
    It is called in the thread that logs; what it raises is dropped."""
    _listeners[:] = [listener]


def _tell(level: str, text: str, event: LogEvent | None, fields: Mapping[str, Any]) -> None:
    for listener in _listeners:
        if event is not None:
            with contextlib.suppress(Exception):
                listener(level, text, event, fields)


def at(level: str, text: str, event: LogEvent | None, **fields: Any) -> None:
    """A line of any level. May be called in any process and thread; never raises."""
    _tell(level, text, event, fields)
    logger.opt(depth=1).bind(event=event, **fields).log(level, text)


def debug(text: str, event: LogEvent | None = None, **fields: Any) -> None:
    """As `at`, with the level DEBUG."""
    _tell("DEBUG", text, event, fields)
    logger.opt(depth=1).bind(event=event, **fields).debug(text)


def info(text: str, event: LogEvent, **fields: Any) -> None:
    """As `at`, with the level INFO."""
    _tell("INFO", text, event, fields)
    logger.opt(depth=1).bind(event=event, **fields).info(text)


def warning(text: str, event: LogEvent, **fields: Any) -> None:
    """As `at`, with the level WARNING."""
    _tell("WARNING", text, event, fields)
    logger.opt(depth=1).bind(event=event, **fields).warning(text)


def error(text: str, event: LogEvent, **fields: Any) -> None:
    """As `at`, with the level ERROR."""
    _tell("ERROR", text, event, fields)
    logger.opt(depth=1).bind(event=event, **fields).error(text)


def critical(text: str, event: LogEvent, **fields: Any) -> None:
    """As `at`, with the level CRITICAL."""
    _tell("CRITICAL", text, event, fields)
    logger.opt(depth=1).bind(event=event, **fields).critical(text)


def exception(text: str, event: LogEvent, **fields: Any) -> None:
    """As `error`, with the traceback of the exception that is handled."""
    _tell("ERROR", text, event, fields)
    logger.opt(depth=1, exception=True).bind(event=event, **fields).error(text)
