"""Text in cells of a terminal: how wide it is, how it is cut, and how lines are coloured.

A line is a list of spans, each a text and the word for its colour. Names come from any client of
Redis: `plain` makes them harmless, and everything here measures what a terminal would show.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import IO, Final

from resqued.printable import printable

Span = tuple[str, str]
"""A text, and one of the words of `COLOURS`; empty: as the terminal shows text."""

Line = list[Span]

COLOURS: Final = {
    "": "",
    "bold": "1",
    "dim": "2",
    "good": "32",
    "odd": "33",
    "bad": "31",
    "heading": "1;4",
    "chosen": "7",
}
"""Of each word its parameters of SGR (ECMA-48)."""

NARROW, USUAL, WIDEST = 24, 80, 1000

_CUT: Final = ".."


def plain(text: str) -> str:
    """A name from outside, harmless on a terminal."""
    return printable(text)


def width_of(text: str) -> int:
    """Cells that a terminal takes for it."""
    if text.isascii():
        return len(text)
    return sum(map(_cells, text))


def _cells(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    """At most so many cells of it; what is cut ends in two dots."""
    if width_of(text) <= width:
        return text
    room, kept = max(0, width - len(_CUT)), ""
    for character in text:
        room -= _cells(character)
        if room < 0:
            break
        kept += character
    return (kept + _CUT)[: max(width, 0)]


def cut_left(text: str, width: int) -> str:
    """The same for what is known by its end, such as a path."""
    if width_of(text) <= width:
        return text
    return cut(text[::-1], width)[::-1] if width > len(_CUT) else cut(text, width)


def function_in(name: str, width: int) -> str:
    """The dotted name of a function without the first of its modules, as many as have to go."""
    while width_of(name) > width and "." in name.strip("."):
        name = name.partition(".")[2]
    return cut(name, width)


def pad(text: str, width: int, *, right: bool = False) -> str:
    """With blanks up to so many cells. right: the text stands on the right."""
    blanks = " " * max(0, width - width_of(text))
    return blanks + text if right else text + blanks


def broken(text: str, width: int, indent: str) -> Iterable[str]:
    """All of a text without blanks, in pieces that fit, each indented."""
    room = max(8, width - len(indent))
    piece, used = "", 0
    for character in text:
        cells = _cells(character)
        if used + cells > room:
            yield indent + piece
            piece, used = "", 0
        piece, used = piece + character, used + cells
    yield indent + piece


def flow(parts: Sequence[Span], width: int, *, indent: str = "  ") -> list[Line]:
    """Parts behind each other, with commas, on as few lines as they fit; longer ones are cut."""
    lines: list[Line] = [[]] if parts else []
    used = 0
    for number, (text, colour) in enumerate(parts):
        comma = "," if number + 1 < len(parts) else ""
        taken = width_of(text) + len(comma)
        if lines[-1] and used + 1 + taken > width:
            lines.append([(indent, "")])
            used = len(indent)
        elif lines[-1]:
            lines[-1].append((" ", ""))
            used += 1
        text = cut(text, width - used - len(comma))
        lines[-1] += [(text, colour), (comma, "")] if comma else [(text, colour)]
        used += width_of(text) + len(comma)
    return lines


def clipped(line: Line, width: int) -> Line:
    """At most so many cells of a line."""
    kept: Line = []
    for text, colour in line:
        text = cut(text, width)
        kept.append((text, colour))
        width -= width_of(text)
    return kept


def seconds(value: float) -> str:
    """`12s`, `3m12s`, `5h03m`, `2d04h`."""
    whole = max(0, int(value))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def size(value: int) -> str:
    """Bytes: `5 MB`, `1.2 GB`."""
    return f"{value / 1e9:.1f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


def terminal_width(stream: IO[str]) -> int:
    """Columns: of $COLUMNS, or of the terminal; 80 where there is none."""
    named = os.environ.get("COLUMNS", "")
    if named.isdecimal() and int(named) > 0:
        return _bounded(int(named))
    try:
        return _bounded(os.get_terminal_size(stream.fileno()).columns or USUAL)
    except (OSError, ValueError):
        return USUAL


def _bounded(columns: int) -> int:
    return min(max(columns, NARROW), WIDEST)


def has_colour(stream: IO[str]) -> bool:
    """Whether it is a terminal, and neither NO_COLOR nor TERM=dumb is in the environment."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


def written(lines: Iterable[Line], *, colour: bool) -> str:
    """The lines as text, with or without colours."""
    return "\n".join("".join(_written(span, colour=colour) for span in line) for line in lines)


def _written(span: Span, *, colour: bool) -> str:
    text, word = span
    sgr = COLOURS[word] if colour else ""
    return f"\x1b[{sgr}m{text}\x1b[0m" if sgr and text else text


def show(text: str) -> None:
    """Print it, whatever the encoding of standard output has no letters for."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, errors="backslashreplace").decode(encoding))
