"""What the duties of a config file have written down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.waiting import read_lines


@pytest.fixture
def calls(tmp_path: Path) -> Callable[[], list[str]]:
    """`calls()`: the lines that duties have written so far."""
    return lambda: read_lines(tmp_path / "calls")
