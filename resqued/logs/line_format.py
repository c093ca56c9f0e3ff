"""Format a log line: as text, as JSON, or for journald. Passwords are removed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from resqued.log_events import LogEvent
from resqued.logs.plain_values import plain_value, rfc3339, shown, text_value
from resqued.logs.redaction import redact
from resqued.printable import printable

_INDENT: Final = "    "
_SYSLOG: Final = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}
_NOTHING: Final[Mapping[str, Any]] = {}

_ROLES: Final = {"recovery": "worker", "steward": "steward"}
"""What the number is of, in `recovery=3`: of a dead worker's slot."""

_encode: Final = json.JSONEncoder(allow_nan=False).encode


@dataclass(slots=True)
class Line:
    """What a record says, before it is formatted."""

    when: datetime
    level: str
    text: str
    logger: str = ""
    event: LogEvent | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Of the event; with one, `text` says them already."""
    job: Mapping[str, Any] = field(default_factory=dict)
    """The job that runs while other code than resqued's logs."""
    traceback: str = ""
    prefix: str = ""
    """What stands before the text if it is not formatted as JSON: the name of a logger."""


def render(style: str, who: str, line: Line, date_format: str | None = None) -> bytes:
    """Format a record, with its newline. style: text, json, journal. who: `worker=3 gen=1 pid=812`.
    date_format: for strftime(3), in the style text."""
    if style == "json":
        return _json(who, line)
    fields = _NOTHING if line.event is not None else line.fields
    facts = [
        f"{shown(name)}={shown(value)}" for name, value in (*fields.items(), *line.job.items())
    ]
    head, newline, rest = redact(f"{line.prefix}{line.text}").partition("\n")
    text = " ".join([part for part in (who, head, *facts) if part]) + newline + rest
    if line.traceback:
        text = f"{text}\n{redact(line.traceback)}".rstrip()
    return _text(style, text, line, date_format)


def _text(style: str, text: str, line: Line, date_format: str | None) -> bytes:
    text = printable(text, lines=True)
    if style == "journal":  # each line is a record there; journald adds the time
        mark = f"<{_SYSLOG.get(line.level, 5)}>"
        text = mark + text.replace("\n", f"\n{mark}{_INDENT}")
    else:
        if date_format is not None:
            stamp = printable(line.when.strftime(date_format))
        else:
            stamp = line.when.isoformat(" ", "milliseconds")[:23]
        text = f"{stamp} {line.level:<5} " + text.replace("\n", f"\n{_INDENT}")
    return f"{text}\n".encode(errors="backslashreplace")


def _json(who: str, line: Line) -> bytes:
    """`worker=3 gen=1 pid=812` becomes fields; the lines below the first become `details`."""
    made: dict[str, Any] = {
        "time": rfc3339(line.when),
        "level": line.level,
        "logger": line.logger,
        "message": "",
        **speaker(who),
    }
    message, newline, rest = line.text.partition("\n")
    made["message"] = text_value(message)
    if newline:
        made["details"] = text_value(rest)
    if line.event is not None:
        made["event"] = str(line.event)
    for name, value in line.job.items():
        made[name] = plain_value(value)
    taken = _NOTHING if line.event is not None else {**made, "event": "", "traceback": ""}
    for name, value in line.fields.items():
        if value is not None or line.event is None:
            key = text_value(str(name))
            made[f"{key}_" if key in taken else key] = plain_value(value)
    if line.traceback:
        made["traceback"] = text_value(line.traceback)
    return f"{_encode(made)}\n".encode()


def speaker(who: str) -> dict[str, Any]:
    """The fields for `worker=3 gen=1 pid=812`, or `forkserver gen=1 pid=811`. The pid is this
    process's if `who` has none."""
    fields: dict[str, Any] = {}
    for word in who.split():
        name, _, value = word.partition("=")
        if not value:
            fields["process"] = name
        else:
            if name in _ROLES:
                fields["process"], name = name, _ROLES[name]
            fields[name] = int(value) if value.isdecimal() else value
    fields.setdefault("pid", os.getpid())
    return fields
