"""A queue, its share of the workers, and its limit in the fleet: `critical`, `high=20`, `low=10%`,
`mails=5/fleet`, `reports=10%/5/fleet`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final, Self

from resqued.printable import is_printable, printable

_SHARE: Final = re.compile(r"(?P<number>[0-9]{1,9})|(?P<percent>[0-9]{1,9}(?:\.[0-9]{1,9})?)\s*%")
_LIMIT: Final = re.compile(r"(?:(?P<share>[^/]*)/)?(?P<limit>[^/]*)/\s*fleet")
_LOOKS_LIKE_A_SHARE: Final = re.compile(r"(?P<name>.+):\s*(?P<share>[0-9.]+\s*%?(?:/.*)?|all)")
_FORMS: Final = "20, 10% or all; 20/fleet is at most 20 jobs at once on all hosts"

LONGEST_NAME: Final = 255
"""Bytes of the name of a queue, which has to fit a record of the scoreboard."""


@dataclass(frozen=True)
class QueueShare:
    """One `--queue`. Worker n of a count serves it if n <= share(count).

    Exactly one of `number` and `percent` is set, or neither: every worker. limit: how many of its
    jobs run at once in the whole fleet; None: any number.
    """

    name: str
    number: int | None = None
    percent: Fraction | None = None
    limit: int | None = None

    def share(self, count: int) -> int:
        """How many of `count` workers serve this queue: floor of a percentage, at least one."""
        if self.number is not None:
            return min(self.number, count)
        if self.percent is None:
            return count
        if self.percent == 0:
            return 0
        return max(1, count * self.percent.numerator // (100 * self.percent.denominator))

    @property
    def text(self) -> str:
        """The share as it is written: `20`, `10%`, or `all`."""
        if self.number is not None:
            return str(self.number)
        if self.percent is not None:
            return f"{float(self.percent):g}%"
        return "all"

    def __str__(self) -> str:
        """As `parse_queue` reads it."""
        if self.limit is not None:
            share = "" if self.text == "all" else f"{self.text}/"
            return f"{self.name}={share}{self.limit}/fleet"
        plain = self.text == "all" and "=" not in self.name and not _mistake(self.name)
        return self.name if plain else f"{self.name}={self.text}"

    def as_plain(self) -> list[Any]:
        """JSON for the channel, to the last digit; `from_plain` is its inverse."""
        percent = self.percent
        return [self.name, self.number, percent if percent is None else str(percent), self.limit]

    @classmethod
    def from_plain(cls, plain: list[Any]) -> Self:
        name, number, percent, *limit = plain  # an older arbiter tells of no limit
        return cls(name, number, percent if percent is None else Fraction(percent), *limit)


def limits_of(queues: Iterable[QueueShare]) -> dict[str, int]:
    """The limits in the fleet of those that have one, by name."""
    return {queue.name: queue.limit for queue in queues if queue.limit is not None}


def parse_queue(text: str) -> QueueShare:
    """Read `NAME[=NUM|NUM%|all][/NUM/fleet]`; without a share `NAME=NUM/fleet`. Raises ValueError
    that says what is wrong with the value.

    A name that looks like something else (`high:20`, `mail-*`) is taken only with a share.
    """
    name, equals, share = (part.strip() for part in text.rpartition("="))
    if not equals:
        if mistake := _mistake(share):
            raise ValueError(mistake)
        return make_queue(share, "all")
    try:
        return make_queue(name, share)
    except BadShare as error:
        raise ValueError(f"{error}; a queue of the name {text!r} is written '{text}=all'") from None


def _mistake(name: str) -> str:
    """What was probably meant by a name without a share; empty if it is surely a name."""
    if match := _LOOKS_LIKE_A_SHARE.fullmatch(name):
        meant = f"{match['name']}={match['share']}"
        return f"{name!r} has no share; write '{meant}', or '{name}=all' for a queue of that name"
    if "*" in name and name != "*":
        return (
            f"{name!r} is no pattern: '*' alone is every queue that is not named;"
            f" write '{name}=all' for a queue of that name"
        )
    return ""


def mistaken_share(name: str) -> str:
    """What was probably meant by a name that a plugin gives; empty if it may be a name."""
    queue, equals, share = name.rpartition("=")
    is_share = share == "all" or _SHARE.fullmatch(share) or _LIMIT.fullmatch(share)
    if equals and queue and is_share:
        return f"a name has no share here; write {queue!r}, or name such a queue with --queue"
    if "*" in name and name != "*":
        return (
            "it is no pattern: '*' alone is every queue that is not named; name a queue that is"
            f" called so with --queue '{name}=all'"
        )
    return ""


def check_name(name: str) -> str:
    """The name of a queue as it was given. Raises ValueError for one that cannot be served.

    RQ takes any text. A comma separates the queues of a worker in its key; a name that ends with
    `:intermediate` is the list in which RQ keeps jobs that are being taken from another queue.
    """
    if not name:
        raise ValueError("a queue needs a name")
    if not _is_utf8(name):
        raise ValueError(f"queue {name!r} is not UTF-8; RQ has no such names")
    if not is_printable(name):
        raise ValueError(f"queue '{printable(name)}' has control characters in its name; rename it")
    if len(name.encode()) > LONGEST_NAME:
        shown = f"{name[:20]}..."
        raise ValueError(f"queue {shown!r} has {len(name.encode())} bytes; at most {LONGEST_NAME}")
    if name != name.strip():
        raise ValueError(f"queue {name!r} has a blank at an end of its name; take it away")
    if "," in name:
        several = " ".join(f"--queue {part.strip()}" for part in name.split(",") if part.strip())
        raise ValueError(
            f"queue {name!r} has a comma in its name, which RQ does not list right; for several"
            f" queues write {several}"
        )
    if name.endswith(":intermediate"):
        other = name.removesuffix(":intermediate")
        raise ValueError(f"queue {name!r} is where RQ keeps jobs being taken from '{other}'")
    return name


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


class BadShare(ValueError):
    """The share is wrong, not the name."""


def make_queue(name: str, share: str | int | float) -> QueueShare:
    """A queue with a share and a limit as the command line or the config file writes them.

    A float is a fraction (0.10 is 10 %), an int a number of workers.
    Raises ValueError for a name that cannot be served; BadShare for a negative share or one above
    100 %.
    """
    check_name(name)
    if isinstance(share, bool):
        raise BadShare(f"queue {name!r} has share {share!r}; write 20, '10%', 0.10 or 'all'")
    if isinstance(share, int):
        if share < 0:
            raise BadShare(f"queue {name!r} has share {share}; write 0 or more workers")
        return QueueShare(name, number=share)
    if isinstance(share, float):
        percent = Fraction(repr(share)) * 100
        return QueueShare(name, percent=_checked(name, f"{share!r}", percent))
    if "/" in share:
        return _limited(name, share)
    if share.lower() == "all":
        return QueueShare(name)
    match = _SHARE.fullmatch(share)
    if match is None:
        raise BadShare(f"queue {name!r} has share {share!r}; write {_FORMS}")
    if match["number"]:
        return QueueShare(name, number=int(match["number"]))
    return QueueShare(name, percent=_checked(name, share, Fraction(match["percent"])))


def _limited(name: str, text: str) -> QueueShare:
    """Of `NUM/fleet`, or `SHARE/NUM/fleet`. Raises BadShare."""
    match = _LIMIT.fullmatch(text)
    if match is None:
        raise BadShare(f"queue {name!r} has share {text!r}; write {_FORMS}")
    limit = match["limit"].strip()
    if not re.fullmatch("[0-9]{1,9}", limit):
        raise BadShare(
            f"queue {name!r} has the limit {limit!r}, which is no number of jobs; write 20/fleet"
        )
    if int(limit) == 0:
        raise BadShare(
            f"queue {name!r} has the limit 0; write 1/fleet or more, or pause it:"
            f" resquedctl queue pause {name}"
        )
    if name == "*":
        raise BadShare("'*' is many queues, and a limit is of one: name it")
    share = make_queue(name, (match["share"] or "all").strip() or "all")
    return replace(share, limit=int(limit))


def _checked(name: str, written: str, percent: Fraction) -> Fraction:
    if not 0 <= percent <= 100:
        raise BadShare(f"queue {name!r} has share {written}; a share is between 0% and 100%")
    return percent
