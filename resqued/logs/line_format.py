"""Format a log line: as text, as JSON, or for journald. Passwords are removed."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

from resqued.logs.redaction import redact
from resqued.printable import printable

_INDENT: Final = "    "
_SYSLOG: Final = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}


def render(
    style: str,
    who: str,
    when: datetime,
    level: str,
    text: str,
    extra: dict[str, Any],
    date_format: str | None = None,
) -> bytes:
    """Format a record, with its newline. style: text, json, journal. who: `worker=3 gen=1 pid=812`.
    text: the message, and maybe a traceback below it. date_format: for strftime(3), in the style
    text."""
    text = redact(text)
    words = {name: redact(str(value)) for name, value in extra.items()} if extra else extra
    if style == "json":
        return _json(when, level, who, text, words)
    facts = [f"{name}={value}" for name, value in words.items()]
    line = printable(" ".join([part for part in (who, text, *facts) if part]), lines=True)
    if style == "journal":  # each line is a record there; journald adds the time
        mark = f"<{_SYSLOG.get(level, 5)}>"
        line = mark + line.replace("\n", f"\n{mark}{_INDENT}")
    else:
        if date_format is not None:
            stamp = printable(when.strftime(date_format))
        else:
            stamp = when.isoformat(" ", "milliseconds")[:23]
        line = f"{stamp} {level:<5} " + line.replace("\n", f"\n{_INDENT}")
    return f"{line}\n".encode(errors="backslashreplace")


def _json(when: datetime, level: str, who: str, text: str, extra: dict[str, str]) -> bytes:
    """`worker=3 gen=1 pid=812` becomes fields; the lines below the first become `details`."""
    fields: dict[str, Any] = {"time": when.isoformat(timespec="milliseconds"), "level": level}
    for word in who.split():
        name, _, value = word.partition("=")
        if not value:
            fields["process"] = name
        else:
            fields[name] = int(value) if value.isdecimal() else value
    fields["message"], newline, rest = text.partition("\n")
    if newline:
        fields["details"] = rest
    return (json.dumps({**fields, **extra}) + "\n").encode()
