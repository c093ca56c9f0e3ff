"""Where the stand-ins write what is asked of them."""

from __future__ import annotations

import os
from pathlib import Path


def tell(line: str) -> None:
    """Append a line, whole, from whatever process."""
    if path := os.environ.get("FAKES"):
        with Path(path).open("a") as file:
            file.write(f"{line}\n")
