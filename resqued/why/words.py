"""How a story writes times, numbers and names."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from typing import Final

from resqued.printable import printable
from resqued.why.facts import WorkerFacts

_DAY: Final = 86400
_UNITS: Final = ((_DAY, "d"), (3600, "h"), (60, "min"), (1, "s"))


def clock(moment: float, now: float) -> str:
    """`14:03:07`; of another day `2026-11-29 14:03`. Unix seconds, shown in local time."""
    there, here = time.localtime(moment), time.localtime(now)
    same = (there.tm_year, there.tm_yday) == (here.tm_year, here.tm_yday)
    return time.strftime("%H:%M:%S" if same else "%Y-%m-%d %H:%M", there)


def span(seconds: float) -> str:
    """`3 ms`, `1.4 s`, `12 s`, `2 min 10 s`, `3 h 5 min`, `2 d 4 h`."""
    seconds = max(0.0, seconds)
    if 0 < seconds < 0.95:
        return f"{max(1, round(seconds * 1000))} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds % 1 else f"{seconds:.0f} s"
    left = round(seconds)
    parts: list[tuple[int, str]] = []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append((count, unit))
        if len(parts) == 2:
            break
    return " ".join(f"{count} {unit}" for count, unit in parts if count)


def ordinal(number: int) -> str:
    """`1st`, `42nd`, `113th`."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{'th' if number % 100 in (11, 12, 13) else ending}"


def counted(number: int, thing: str, things: str = "") -> str:
    """`1 job`, `3,000 jobs`. things: the plural, if it is another."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def times(number: int) -> str:
    """`once`, `twice`, `3 times`."""
    return {1: "once", 2: "twice"}.get(number, f"{number:,} times")


def named(name: str) -> str:
    """A name that others have chosen."""
    return f"'{printable(name)}'"


def typed(name: str) -> str:
    """A name as the last words of a command in a shell."""
    word = shlex.quote(printable(name))
    return f"-- {word}" if name.startswith("-") else word


def listing(words: Sequence[str], longest: int = 5, last: str = "and") -> str:
    """`a, b and c`; of many the first few and how many more."""
    shown = list(words)
    if len(shown) > longest + 1:
        shown = [*shown[:longest], f"{len(words) - longest} more"]
    if len(shown) < 2:
        return "".join(shown)
    return f"{', '.join(shown[:-1])} {last} {shown[-1]}"


def numbers(found: Sequence[int]) -> str:
    """`1-3, 7`."""
    runs: list[tuple[int, int]] = []
    for number in sorted(set(found)):
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def rate(per_minute: float) -> str:
    """`0.5 a minute`, `12 a minute`, `4,070 a minute`."""
    return f"{per_minute:,.0f} a minute" if per_minute >= 10 else f"{per_minute:.2g} a minute"


def megabytes(count: int) -> str:
    """`640 MB`, `1.9 GB`."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def worker_words(worker: WorkerFacts) -> str:
    """`worker 3 on web1 (generation 2)`, `RQ's worker 'x' on web1`."""
    where = f" on {worker.host}" if worker.host else ""
    if worker.stock:
        return f"RQ's own worker {named(worker.name)}{where}"
    if not worker.number:
        return f"the worker {named(worker.name)}{where}"
    if not worker.host:
        return f"worker {worker.number} ({named(worker.name)})"
    generation = f" (generation {worker.generation})" if worker.generation else ""
    return f"worker {worker.number}{where}{generation}"
