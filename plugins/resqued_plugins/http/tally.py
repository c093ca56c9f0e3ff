"""What the plugin counts itself: workers that have left by cause, reloads by result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from resqued import Exit


class Tally:
    """Counted in the arbiter's loop, read in the server's thread, kept over a re-exec."""

    def __init__(self) -> None:
        self.exits: Counter[str] = Counter()
        self.reloads: Counter[str] = Counter({"done": 0, "failed": 0, "replaced": 0})
        self._number = 1  # of the generation that has come or failed last

    def exited(self, exit: Exit) -> str:
        """Count a worker's exit; its cause, in one word."""
        cause = "out_of_memory" if exit.out_of_memory else exit.cause or exit.reason or "died"
        self.exits[cause] += 1
        return cause

    def reloaded(self, number: int, error: str | None) -> None:
        """Count a reload. number: of its generation; those that were left out were replaced by it.
        error: why it has failed."""
        self.reloads["failed" if error is not None else "done"] += 1
        self.reloads["replaced"] += max(0, number - self._number - 1)
        self._number = max(self._number, number)

    def as_plain(self) -> dict[str, Any]:
        return {
            "exits": dict(self.exits),
            "reloads": dict(self.reloads),
            "number": self._number,
        }

    def restore(self, plain: Mapping[str, Any]) -> None:
        """What the image before has counted."""
        self.exits.update(plain.get("exits", {}))
        self.reloads.update(plain.get("reloads", {}))
        self._number = max(self._number, plain.get("number", 1))
