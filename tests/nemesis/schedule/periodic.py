"""The periodic jobs. Modules beside this one register them: `--cron nemesis.schedule.unchanged`."""

from __future__ import annotations

from resqued import cron

NAMES = [f"periodic {number}" for number in range(20)]
"""Every second one has an interval, the others a cron expression."""

QUEUE = "ticks"

EVERY = 1
"""Seconds between two ticks."""

_DAY = 86400


def register(**options: object) -> None:
    """All of them, with these options of a job."""
    for number, name in enumerate(NAMES):
        when = {"cron": "* * * * * *"} if number % 2 else {"interval": EVERY}
        cron.register(
            "harness.jobs.noop",
            QUEUE,
            name=name,
            misfire="all",
            grace=_DAY,
            timezone="UTC",
            **when,
            **options,
        )
