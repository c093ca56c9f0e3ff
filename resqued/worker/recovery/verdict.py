"""What a recovery has found, and done."""

from __future__ import annotations

import enum


class Verdict(enum.StrEnum):
    """On the job of a dead worker; goes to the arbiter by its value."""

    NOTHING = "nothing"  # it had none
    CLEAN = "clean"  # its outcome had been written
    REQUEUED = "requeued"  # at the front of its queue again
    RETRIED = "retried"  # as RQ does with a killed horse
    FAILED = "failed"
    UNANSWERED = "unanswered"
    """Redis has not answered, or has refused to write, for so long that another recovery shall try
    it."""
