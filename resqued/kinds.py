"""Kinds of values of settings: how each is read from text, and checked when Python gives it.

Text comes from flags and variables, Python values from the config file and `configure` hooks.
A wrong value raises ValueError, whose text names the value and the remedy; the caller adds where
the value came from.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from resqued import queue_words
from resqued.cores import usable_cores
from resqued.printable import is_printable
from resqued.queue_words import QueueWords
from resqued.redis_url import read_url, sentinel_url
from resqued.shares import QueueShare, make_queue, parse_queue


class Wrong(ValueError):
    """Several things are wrong with one value."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Kind:
    """One kind of value."""

    metavar: str
    read: Callable[[str], Any]  # one flag's or one list item's text
    take: Callable[[Any], Any]  # a whole Python value
    many: bool = False  # the flag is repeatable, the variable comma separated, the result a tuple
    switch: bool = False  # the flag takes no value
    path: bool = False  # relative to the working directory
    words: tuple[str, ...] = ()  # that it is one of


def optional(kind: Kind, *words: str) -> Kind:
    """The same, or nothing: None in Python, `none` in text (to undo what a file says).

    words: others that mean nothing, in Python too.
    """
    return replace(
        kind,
        read=lambda text: None if text in ("none", *words) else kind.read(text),
        take=lambda value: None if value in (None, *words) else kind.take(value),
    )


def many(item: Kind) -> Kind:
    """A list of such values; Python gives a list or tuple. Items are Python values of `item`."""

    def take(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{value!r} is not a list; write [{value!r}]")
        return read_each(item.take, value)

    return replace(item, take=take, many=True)


def choice(*words: str, note: str = "") -> Kind:
    """One of these words, in capitals or not. note: what else to say of a value that is none."""

    def read(text: str) -> str:
        for word in (text, text.upper(), text.lower()):
            if word in words:
                return word
        more = f"; {note}" if note else ""
        raise ValueError(f"{text!r} is none of {', '.join(words)}{more}")

    return replace(_text("|".join(words), read), words=words)


LONGEST: Final = 10 * 365 * 86400
"""Seconds of the longest duration: ten years. Timers of the kernel and of Redis take it."""

_HUGE: Final = 10**12  # a count that nothing reaches


def number(minimum: int, maximum: int = _HUGE, metavar: str = "N") -> Kind:
    """A whole number within bounds."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]+", text.strip()):
            raise ValueError(f"{text!r} is not a whole number")
        if len(text) > 100:  # Python reads at most 4300 digits
            raise ValueError(f"a number of {len(text)} digits is too large; at most {maximum}")
        return take(int(text))

    def take(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{value!r} is not a whole number")
        if value < minimum:
            raise ValueError(f"{value} is too small; at least {minimum}")
        if value > maximum:
            raise ValueError(f"{value} is too large; at most {maximum}")
        return value

    return Kind(metavar, read, take)


class AutoCount(int):
    """A number of workers that `auto` has found, and that `max_workers` may lower."""


def _take_workers(value: Any) -> int:
    """A number of workers, or `auto`: one for each core that this process may use now."""
    if isinstance(value, AutoCount):
        return value
    if value == "auto":
        return AutoCount(min(usable_cores(), _most_workers()))
    if isinstance(value, str) and not re.fullmatch(r"[+-]?[0-9]+", value.strip()):
        raise ValueError(f"{value!r} is not a number of workers; write 4, or auto")
    return _take_max_workers(value)


def _take_max_workers(value: Any) -> int:
    count = number(1, _most_workers())
    return int(count.read(value) if isinstance(value, str) else count.take(value))


def _most_workers() -> int:
    from resqued.scoreboard import MAX_SLOTS  # late: every plugin imports this module

    return MAX_SLOTS


_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(*, zero: bool) -> Kind:
    """A duration: seconds as a float, or with a unit in text (`90`, `1.5`, `15m`, `2h`)."""

    def check(value: float) -> float:
        if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
            least = "0 or more" if zero else "more than 0"
            raise ValueError(f"{value:g} seconds cannot be; write {least}")
        if value > LONGEST:
            raise ValueError(f"{value:g} seconds are too many; at most {LONGEST} (ten years)")
        return value

    def read(text: str) -> float:
        match = re.fullmatch(r"([+-]?[0-9]*\.?[0-9]+)\s*([smhd]?)", text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not a duration; write seconds, or 15m, 2h, 1d")
        return check(float(match[1]) * _UNITS[match[2]])

    def take(value: Any) -> float:
        if isinstance(value, str):
            return read(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{value!r} is not a number of seconds")
        try:
            return check(float(value))
        except OverflowError:  # an int of hundreds of digits
            return check(math.inf if value > 0 else -math.inf)

    return Kind("SECONDS", read, take)


_SIZES: Final = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_LARGEST: Final = 2**50


def _read_size(text: str) -> int:
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([KMGT]?)(?:I?B)?", text.strip().upper())
    size = float(match[1]) * _SIZES[match[2]] if match else 0.0
    if size < 1:
        raise ValueError(f"{text!r} is not a size; write bytes, or 512M, 2G")
    if size > _LARGEST:
        raise ValueError(f"{text[:40]!r} is too large; at most 1024T")
    return int(size)


def _take_size(value: Any) -> int:
    if isinstance(value, str):
        return _read_size(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _LARGEST:
        raise ValueError(f"{value!r} is not a size; write bytes, or '512M', '2G'")
    return value


def _read_switch(text: str) -> bool:
    word = text.strip().lower()
    if word not in ("1", "true", "yes", "on", "0", "false", "no", "off", ""):
        raise ValueError(f"{text!r} is neither yes nor no; write 1 or 0")
    return word in ("1", "true", "yes", "on")


def _take_switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither True nor False")
    return value


def _text(metavar: str, read: Callable[[str], str]) -> Kind:
    def take(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is not text; put it in quotes")
        return read(value)

    return Kind(metavar, read, take)


def _read_word(text: str) -> str:
    if not text:
        raise ValueError("it is empty")
    if any(char.isspace() or not char.isprintable() for char in text):
        raise ValueError(f"{text!r} has blanks or control characters in it")
    return text


def _read_format(text: str) -> str:
    if not text or not is_printable(text):
        raise ValueError(f"{text!r} is empty, or has control characters in it")
    return text


def _read_name(text: str) -> str:
    if len(_read_word(text).encode()) > 80:
        raise ValueError(f"{text[:20] + '...'!r} is too long; at most 80 bytes")
    return text


def _read_module(text: str) -> str:
    if text.endswith(".py") or "/" in text:
        raise ValueError(f"{text!r} is a file; write the module's name, and --path for its folder")
    if not _is_dotted(text, 1):
        raise ValueError(f"{text!r} is not the name of a module; write myapp, or myapp.tasks")
    return text


def _is_dotted(text: str, least: int = 2) -> bool:
    """Whether it is so many names, or more, with dots between them."""
    parts = text.split(".")
    return len(parts) >= least and all(part.isidentifier() for part in parts)


def _read_dotted(text: str) -> str:
    if not _is_dotted(text):
        raise ValueError(f"{text!r} is not a dotted name; write package.module.Name")
    return text


def _read_serializer(text: str) -> str:
    if text in ("json", "pickle", "default") or _is_dotted(text):
        return text
    raise ValueError(f"{text!r} is neither json, pickle nor a dotted name")


def _read_file(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("a file name cannot be empty")
    if text == "-":
        raise ValueError("'-' is not the name of a file; for one that is called so, write ./-")
    return text


def _take_file(value: Any) -> str:
    if not isinstance(value, str | os.PathLike):
        raise ValueError(f"{value!r} is not the name of a file; put it in quotes")
    return _read_file(os.fsdecode(value))


def _take_redis(value: Any) -> str:
    """A URL, or RQ's SENTINEL settings."""
    if isinstance(value, Mapping):
        return sentinel_url(value)
    if not isinstance(value, str):
        raise ValueError("not text; put the URL in quotes, or give RQ's SENTINEL settings, a dict")
    return read_url(value)


def _by_queue(words: QueueWords) -> Kind:
    known = (words.default, words.other)
    metavar = f"[NAME=]{words.default}|{words.other}"
    return Kind(metavar, words.read, words.take, many=True, words=known)


def take_queues(value: Any) -> tuple[QueueShare, ...]:
    """`{"critical": "all", "high": 20, "low": 0.10}`, or a list of `NAME[=SHARE]`."""
    if isinstance(value, Mapping):
        return read_each(lambda pair: _named_queue(*pair), value.items())
    if isinstance(value, list | tuple):
        return read_each(_listed_queue, value)
    raise ValueError(f'{value!r} is not a dict; write {{"high": 20, "low": "10%"}}')


def _named_queue(name: Any, share: Any) -> QueueShare:
    if not isinstance(name, str):
        raise ValueError(f"queue {name!r} is not text; put it in quotes")
    endless = isinstance(share, float) and not math.isfinite(share)
    if not isinstance(share, str | int | float) or endless:
        raise ValueError(f"queue {name!r} has share {share!r}; write 20, '10%', 0.10 or 'all'")
    return make_queue(name, share)


def _listed_queue(value: Any) -> QueueShare:
    if isinstance(value, QueueShare):
        return value
    if not isinstance(value, str):
        raise ValueError(f"queue {value!r} is not text; write 'NAME' or 'NAME=SHARE'")
    return parse_queue(value)


def read_each(read: Callable[[Any], Any], values: Iterable[Any]) -> tuple[Any, ...]:
    """Read all of them. Raises Wrong with the problems of all, not only of the first."""
    found: list[Any] = []
    problems: list[str] = []
    for value in values:
        try:
            found.append(read(value))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise Wrong(problems)
    return tuple(found)


WORKERS: Final = Kind("COUNT|auto", _take_workers, _take_workers)
MAX_WORKERS: Final = Kind("COUNT", _take_max_workers, _take_max_workers)
COUNT: Final = number(1)
DURATION: Final = seconds(zero=False)
WHOLE_SECONDS: Final = number(1, LONGEST, "SECONDS")
SIZE: Final = Kind("SIZE", _read_size, _take_size)
SWITCH: Final = Kind("", _read_switch, _take_switch, switch=True)
WORD: Final = _text("NAME", _read_word)
NAME: Final = _text("NAME", _read_name)
FORMAT: Final = _text("FORMAT", _read_format)
MODULE: Final = _text("MODULE", _read_module)
CLASS: Final = _text("CLASS", _read_dotted)
FUNCTION: Final = _text("FUNCTION", _read_dotted)
SERIALIZER: Final = _text("NAME", _read_serializer)
FILE: Final = Kind("FILE", _read_file, _take_file, path=True)
LOG: Final = optional(FILE, "-")  # `-` is the customary name of a standard stream
CONTROL: Final = replace(
    FILE,
    metavar="PATH|none",
    read=lambda text: "" if text == "none" else _read_file(text),
    take=lambda value: value if value is None else "" if value == "none" else _take_file(value),
)
FOLDER: Final = Kind("DIR", _read_file, _take_file, path=True)
REDIS: Final = Kind("URL", read_url, _take_redis)
ON_TERM: Final = _by_queue(queue_words.ON_TERM)
ISOLATION: Final = _by_queue(queue_words.ISOLATION)
QUEUES: Final = Kind("NAME[=NUM|NUM%|NUM/fleet]", parse_queue, take_queues, many=True)
