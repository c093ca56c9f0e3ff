"""Numbers in a row as one word: how the queues of thousands of slots stay short."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def compact(queues: Mapping[int, Sequence[str]]) -> dict[str, list[str]]:
    """The queues of all slots, written so that thousands stay short: `{"1-3": [...]}`.

    Slots in a row with the same queues are one entry; `expand` is the inverse.
    """
    runs: list[tuple[int, int, list[str]]] = []
    for slot in sorted(queues):
        served = list(queues[slot])
        if runs and runs[-1][1] == slot - 1 and runs[-1][2] == served:
            runs[-1] = (runs[-1][0], slot, served)
        else:
            runs.append((slot, slot, served))
    return {str(a) if a == b else f"{a}-{b}": served for a, b, served in runs}


def expand(slots: Mapping[str, Sequence[str]]) -> dict[int, list[str]]:
    """The queues by slot, from what `compact` made. Slots of one run share one list."""
    found: dict[int, list[str]] = {}
    for text, served in slots.items():
        first, _, last = text.partition("-")
        shared = list(served)
        for slot in range(int(first), int(last or first) + 1):
            found[slot] = shared
    return found


def ranges(numbers: Iterable[int]) -> str:
    """Whole numbers for people: `3-31, 40`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
