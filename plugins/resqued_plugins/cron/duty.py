"""The duty `cron`: enqueues what is due, in the duties process."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resqued import Duty
    from resqued.cron.definition import Definition
    from resqued.cron.keeper import CronKeeper

EVERY = 5.0
"""Seconds until the next call after one that has failed; else each call says when the next is
due."""

LIMIT = 120.0
"""Seconds for a call: a hundred jobs take some milliseconds, but Redis may be slow."""


class CronDuty:
    """The function that is called. loaded: when the definitions were loaded, on the monotonic
    clock."""

    def __init__(self, definitions: Sequence[Definition], loaded: float) -> None:
        self._definitions = definitions
        self._loaded = loaded
        self._keeper: CronKeeper | None = None

    def __call__(self, duty: Duty) -> float:
        from resqued.cron.keeper import CronKeeper

        if self._keeper is None:
            self._keeper = CronKeeper(
                duty.connection,
                duty.arbiter,
                self._definitions,
                loaded=self._loaded,
                serializer=duty.config.serializer,
                takeover=duty.config.cron_takeover,
            )
        return self._keeper.step()
