"""Make text from outside safe to show on a terminal, in a log or in a process title.

Names of queues, jobs and functions come from any client of Redis. Control characters in them would
move the cursor or fake a log line; the marks of bidirectional text would change the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_CONTROLS: Final = (*range(32), *range(0x7F, 0xA0))  # C0, DEL and C1
_SEPARATORS: Final = (0x2028, 0x2029)  # line and paragraph: many viewers break the line there
_BIDIRECTIONAL: Final = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SURROGATES: Final = tuple(range(0xD800, 0xE000))  # how Python stores bytes that are not UTF-8

_ESCAPES: Final[dict[int, str]] = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    for code in (*_CONTROLS, *_SEPARATORS, *_BIDIRECTIONAL, *_SURROGATES)
}
_LINES: Final = {code: text for code, text in _ESCAPES.items() if code not in (9, 10)}

_LONGEST: Final = 1500  # characters of a message; then so many are kept of its ends
_HEAD: Final = 1000
_TAIL: Final = 200


def printable(text: str, *, lines: bool = False) -> str:
    """`text` with everything that a terminal interprets escaped, as `\\x1b` or `\\u202e`.

    lines: keep line feeds and tabs, for text of several lines.
    """
    if text.isascii() and text.isprintable():  # nearly all
        return text
    return text.translate(_LINES if lines else _ESCAPES)


def is_printable(text: str) -> bool:
    """Whether `printable` would leave the text as it is."""
    return printable(text) == text


def one_line(text: str) -> str:
    """A message that contains names from outside, on one line of limited length. Of a long message
    the end is kept too: it may have further facts."""
    if len(text) > _LONGEST:
        text = f"{text[:_HEAD]}... ({len(text)} characters) ...{text[-_TAIL:]}"
    return printable(text)


def is_short(text: str) -> bool:
    """Whether `one_line` leaves it as it is, and it is ASCII."""
    return len(text) <= _LONGEST and text.isascii() and text.isprintable()


def listed(names: Sequence[str], longest: int = 500) -> str:
    """Names for a title or a log line: `a,b`, or `a,b,... (5500)` beyond `longest` characters."""
    text = ",".join(map(printable, names))
    if len(text) <= longest:
        return text
    head = text[:longest].rpartition(",")[0] or text[:longest]
    return f"{head},... ({len(names)})"


def is_logged(count: int) -> bool:
    """Whether the count-th of the same thing in a row is logged: the first, 10th, 100th .."""
    return str(count).strip("0") == "1"
