"""The table that is printed: figures side by side, ratios with their spread, targets reached."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """A median, and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        ranked = sorted(values)
        if len(ranked) < 2:
            return cls(ranked[0], ranked[0], ranked[0])
        low, median, high = statistics.quantiles(ranked, n=4, method="inclusive")
        return cls(median, low, high)

    @classmethod
    def of_ratios(cls, ours: Sequence[float], others: Sequence[float]) -> Spread:
        """Of pairs that were measured one right after the other."""
        return cls.of(one / other for one, other in zip(ours, others, strict=True) if other)

    def __str__(self) -> str:
        if self.low == self.high:
            return _short(self.median)
        return f"{_short(self.median)} ({_short(self.low)}-{_short(self.high)})"


def _short(figure: float) -> str:
    return f"{figure:.0f}" if abs(figure) >= 1000 else f"{figure:.3g}"


@dataclass(frozen=True)
class Target:
    """What is to be reached."""

    words: str
    reached: Callable[[float], bool]


def at_least(bound: float) -> Target:
    return Target(f"at least {bound:g}", lambda figure: figure >= bound)


def at_most(bound: float) -> Target:
    return Target(f"at most {bound:g}", lambda figure: figure <= bound)


@dataclass(frozen=True)
class Check:
    """A figure, or a ratio, and what it should be; without a target it is only told."""

    what: str
    figure: Spread
    target: Target | None = None

    def __str__(self) -> str:
        told = f"{self.what} {self.figure}".strip()
        if self.target is None:
            return told
        verdict = "reached" if self.target.reached(self.figure.median) else "NOT REACHED"
        return f"{told}; {self.target.words}: {verdict}"


def ratio(
    figures: Mapping[str, Sequence[float]], one: str, other: str, target: Target | None = None
) -> list[Check]:
    """The check of one system's figures against another's; none if one of them is missing."""
    if one not in figures or other not in figures:
        return []
    return [Check(f"{one}/{other}", Spread.of_ratios(figures[one], figures[other]), target)]


class Table:
    """Rows by section, each with the figures of some systems. Also told when they come."""

    def __init__(self) -> None:
        self._sections: dict[str, list[tuple[str, dict[str, Spread], list[Check]]]] = {}

    def add(
        self,
        section: str,
        what: str,
        figures: Mapping[str, Sequence[float] | float],
        checks: Sequence[Check] = (),
    ) -> None:
        """what: the figure and its unit. figures: by system, one or several of each."""
        spreads = {
            name: Spread.of([figure] if isinstance(figure, int | float) else figure)
            for name, figure in figures.items()
        }
        self._sections.setdefault(section, []).append((what, spreads, list(checks)))
        told = ", ".join(f"{name} {spread}" for name, spread in spreads.items())
        print(f"  {section}: {what}: {told}", file=sys.stderr, flush=True)

    def note(self, section: str, what: str) -> None:
        """Say in the table why there is no figure."""
        self._sections.setdefault(section, []).append((what, {}, []))
        print(f"  {section}: {what}", file=sys.stderr, flush=True)

    def show(self) -> None:
        for section, rows in self._sections.items():
            systems = list(dict.fromkeys(name for _, figures, _ in rows for name in figures))
            width = max(40, *(len(each) + 2 for each in (section, *(row[0] for row in rows))))
            head = f"{section:<{width}}" + "".join(f"{name:<24}" for name in systems)
            print(f"\n{head}median (quartiles); to reach\n{'-' * (len(head) + 30)}")
            for what, figures, checks in rows:
                cells = "".join(f"{figures.get(name, '-')!s:<24}" for name in systems)
                first, *others = map(str, checks or [""])
                print(f"{what:<{width}}{cells if figures else ''}{first}".rstrip())
                for check in others:
                    print(f"{'':<{len(head)}}{check}")
