"""Collects what the processes have counted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path


class CollectorRegistry:
    folder = ""

    def page(self) -> str:
        counts: Counter[str] = Counter()
        for path in Path(self.folder).glob("*.db"):
            counts.update(path.read_text().splitlines())
        return "".join(f"{name} {float(count)}\n" for name, count in sorted(counts.items()))
