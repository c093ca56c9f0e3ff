"""Collects what this process and others have counted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path


class CollectorRegistry:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.folder: str | None = None

    def page(self) -> str:
        counts = self.counts.copy()
        if self.folder:
            for path in Path(self.folder).glob("*.db"):
                counts.update(path.read_text().splitlines())
        return "".join(f"{name} {float(count)}\n" for name, count in sorted(counts.items()))
