"""A queue and its share of the workers: `critical`, `high=20`, `low=10%`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_SHARE = re.compile(r"(?P<number>\d+)|(?P<percent>\d+(?:\.\d+)?)\s*%")


@dataclass(frozen=True)
class Queue:
    """One `--queue`. Worker n of a count serves it if n <= share(count).

    Exactly one of `number` and `percent` is set, or neither: every worker.
    """

    name: str
    number: int | None = None
    percent: Fraction | None = None

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
        return self.name if self.text == "all" else f"{self.name}={self.text}"


def parse_queue(text: str) -> Queue:
    """Read `NAME[=NUM|NUM%|all]`. Raises ValueError that says what is wrong with the value."""
    name, equals, share = text.rpartition("=")
    if not equals:
        name, share = text, "all"
    return make_queue(name.strip(), share.strip())


def make_queue(name: str, share: str | int | float) -> Queue:
    """A queue with a share as the command line or the config file writes it.

    A float is a part of one (0.10 is 10 %), an int a number of workers.
    Raises ValueError for an empty name, a negative share or one above 100 %.
    """
    if not name:
        raise ValueError("a queue needs a name")
    if isinstance(share, bool):
        raise ValueError(f"queue {name!r} has share {share!r}; write 20, '10%', 0.10 or 'all'")
    if isinstance(share, int):
        if share < 0:
            raise ValueError(f"queue {name!r} has share {share}; write 0 or more workers")
        return Queue(name, number=share)
    if isinstance(share, float):
        percent = Fraction(repr(share)) * 100
        return Queue(name, percent=_checked(name, f"{share!r}", percent))
    if share.lower() == "all":
        return Queue(name)
    match = _SHARE.fullmatch(share)
    if match is None:
        raise ValueError(f"queue {name!r} has share {share!r}; write 20, 10% or all")
    if match["number"]:
        return Queue(name, number=int(match["number"]))
    return Queue(name, percent=_checked(name, share, Fraction(match["percent"])))


def _checked(name: str, written: str, percent: Fraction) -> Fraction:
    if not 0 <= percent <= 100:
        raise ValueError(f"queue {name!r} has share {written}; a share is between 0% and 100%")
    return percent
