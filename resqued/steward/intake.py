"""What the workers of an arbiter may take: not from paused queues, and no more than the limits of
the fleet leave. Wakes those that may."""

from __future__ import annotations

import redis

from resqued.broker.limits import QueueLimits
from resqued.shares import limits_of
from resqued.steward.boot import StewardBoot
from resqued.steward.guests import Guests
from resqued.steward.measure import Look
from resqued.steward.pauses import PausedQueues
from resqued.steward.registration import WorkerRegistrations
from resqued.steward.wake import Wake


class Intake:
    """Runs in the steward. Methods raise redis errors."""

    def __init__(
        self, connection: redis.Redis, boot: StewardBoot, registration: WorkerRegistrations
    ) -> None:
        limits = limits_of(boot.config.queues)
        self._limits = QueueLimits(limits)
        self._guests = Guests(connection, limits, boot.identity)
        self._paused = PausedQueues(connection, boot.board, boot.serial)
        self._wake = Wake(
            connection, boot.board, boot.config, registration, self._paused, self._limits
        )

    def read(self) -> None:
        """Tell the workers what is paused, and who does not obey limits. Those that serve a queue
        that was resumed look again."""
        guests = self._guests.look()
        self._limits.set_guests(guests)
        self._wake.wake_all(self._paused.look(guests))

    def wake(self, seen: Look | None) -> bool:
        """Wake workers that sleep although they may take a job; whether `rq suspend` is in force.
        seen: as for `Wake.look`."""
        return self._wake.look(seen)
