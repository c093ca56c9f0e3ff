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


def at(level: str, text: str, event: LogEvent | None, **fields: Any) -> None:
    """A line of any level. May be called in any process and thread; never raises."""
    _report(level, text, event, fields)


def debug(text: str, event: LogEvent | None = None, **fields: Any) -> None:
    """As `at`, with the level DEBUG."""
    _report("DEBUG", text, event, fields)


def info(text: str, event: LogEvent, **fields: Any) -> None:
    """As `at`, with the level INFO."""
    _report("INFO", text, event, fields)


def warning(text: str, event: LogEvent, **fields: Any) -> None:
    """As `at`, with the level WARNING."""
    _report("WARNING", text, event, fields)


def error(text: str, event: LogEvent, **fields: Any) -> None:
    """As `at`, with the level ERROR."""
    _report("ERROR", text, event, fields)


def critical(text: str, event: LogEvent, **fields: Any) -> None:
    """As `at`, with the level CRITICAL."""
    _report("CRITICAL", text, event, fields)


def exception(text: str, event: LogEvent, **fields: Any) -> None:
    """As `error`, with the traceback of the exception that is handled."""
    _report("ERROR", text, event, fields, trace=True)


def _report(
    level: str,
    text: str,
    event: LogEvent | None,
    fields: Mapping[str, Any],
    *,
    trace: bool = False,
) -> None:
    """Tell the listener, and log. Called by a function above, whose caller the line is of."""
    for listener in _listeners:
        if event is not None:
            with contextlib.suppress(Exception):
                listener(level, text, event, fields)
    extra = fields if event is None else {"event": event, **fields}
    logger.opt(depth=2, exception=trace).bind(**extra).log(level, text)
