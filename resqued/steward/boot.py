"""What a fork server hands to the steward that it has just forked."""

from __future__ import annotations

from dataclasses import dataclass

from resqued.channel import Channel
from resqued.config import Config
from resqued.scoreboard import Scoreboard


@dataclass(frozen=True)
class StewardBoot:
    """All that a new steward gets. Signals are blocked until it has installed its handlers."""

    config: Config
    identity: str  # the arbiter's
    arbiter: int  # its pid
    serial: int  # the highest of all stewards is the newest
    board: Scoreboard
    doorbell: int  # an eventfd that wakes the arbiter
    link: Channel  # to the fork server: Commanded, Recover
