"""Make any object a value of JSON: numbers stay numbers, what JSON does not have becomes text.

Nothing raises, whatever the objects do: they are the application's.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, Final

from resqued.logs.redaction import redact
from resqued.printable import one_line

_DEEPEST: Final = 6  # containers within each other
_MOST: Final = 200  # entries of one container
_LONGEST: Final = 32 * 1024  # characters of a text
_TIMEOUTS: Final = ("BaseTimeoutException", "JobTimeoutException")  # RQ's; not imported here
_LARGEST: Final = 2**64  # larger integers are no numbers for most readers


def plain_value(value: Any, depth: int = 0) -> Any:
    """`value` as JSON has it. Passwords are removed. Never raises, unless by a signal handler."""
    if value is None or value is True or value is False:
        return value
    kind = type(value)
    if kind is str:
        return text_value(value)
    if kind is int or kind is float:
        return _number(value)
    try:
        return _other(value, depth)
    except Exception as error:
        pass_timeout(error)
        return f"<{kind.__name__}, which raises {type(error).__name__}>"


def text_value(text: str) -> str:
    """A text without passwords, cut in the middle if it is huge; bytes that are not UTF-8, which
    no reader of JSON takes, as `\\udcff`."""
    if len(text) > _LONGEST:
        half = _LONGEST // 2
        text = f"{text[:half]}... ({len(text)} characters) ...{text[-half:]}"
    text = redact(text)
    if text.isascii():
        return text
    return text.encode(errors="backslashreplace").decode()


def _number(value: float) -> Any:
    if isinstance(value, float):
        value = float(value)  # of a subclass, which may write itself in another way
        return value if math.isfinite(value) else str(value)
    if -_LARGEST < value < _LARGEST:
        return int(value)
    return f"0x{value:x}" if value.bit_length() > _LONGEST // 8 else str(value)


def _other(value: Any, depth: int) -> Any:
    """A value of no type that JSON has by itself. Raises what the value's methods raise."""
    if isinstance(value, str):
        return text_value(str(value))
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, bytes | bytearray):
        return text_value(bytes(value[:_LONGEST]).decode(errors="backslashreplace"))
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        if depth >= _DEEPEST:
            return f"<{type(value).__name__}, too deep>"
        return _container(value, depth + 1)
    if isinstance(value, numbers.Integral):  # as numpy has them
        return _number(operator.index(value))
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Rational):
        return _number(float(value))
    return text_value(str(value))


def _container(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping):
        made: dict[str, Any] = {}
        for key, each in value.items():
            if len(made) >= _MOST:
                made["..."] = f"{len(value)} entries"
                break
            made[str(plain_value(key, depth))] = plain_value(each, depth)
        return made
    listed: list[Any] = []
    for each in value:
        if len(listed) >= _MOST:
            listed.append(f"... {len(value)} entries")
            break
        listed.append(plain_value(each, depth))
    return listed


def rfc3339(when: datetime) -> str:
    """`2026-03-01T14:03:07.120Z`: UTC, with milliseconds."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds")[:23] + "Z"


def shown(value: Any) -> str:
    """`value` in a line of text, after its name: on one line, and not huge. Never raises."""
    try:
        return one_line(redact(str(value)))
    except Exception as error:
        pass_timeout(error)
        return f"<{type(value).__name__}, which raises {type(error).__name__}>"


def pass_timeout(error: Exception) -> None:
    """Raise the error again if it is a job's timeout, which a signal handler raises anywhere."""
    if any(each.__name__ in _TIMEOUTS for each in type(error).__mro__):
        raise error
