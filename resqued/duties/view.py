"""What the function of a duty is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from resqued.config import Config

if TYPE_CHECKING:
    import redis


@dataclass(frozen=True)
class DutyView:
    """The `protocols.Duty` of one call."""

    name: str
    config: Config
    arbiter: str
    token: int
    connection: redis.Redis
