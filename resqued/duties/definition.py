"""What a plugin has registered with `duties.add`."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class Once(enum.StrEnum):
    """How many processes call a duty at the same time: one an arbiter, or one of all arbiters."""

    ARBITER = "arbiter"
    FLEET = "fleet"


@dataclass(frozen=True)
class DutyDefinition:
    """One duty. every, limit: seconds."""

    name: str
    function: Callable[[Any], Any]
    every: float
    once: Once
    limit: float
    plugin: str

    @property
    def is_of_fleet(self) -> bool:
        return self.once is Once.FLEET
