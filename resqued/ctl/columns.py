"""Text in columns, for terminals."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from resqued.status.text import pad, width_of


def columns(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Rows of cells, the first the heads, as lines. right: columns that are aligned there."""
    widths = [max(map(width_of, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            pad(cell, width, right=at in right)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
