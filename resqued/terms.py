"""What TERM means for a job in hand: `now` or `drain`, for all queues or for one."""

from __future__ import annotations

from typing import Final

from resqued.queue_words import QueueWords

NOW: Final = "now"
"""Interrupted and put back at the front of its queue."""

DRAIN: Final = "drain"
"""Finished, as with QUIT."""

_words: Final = QueueWords(
    "TERM",
    NOW,
    DRAIN,
    {NOW: "jobs in hand are put back and run again", DRAIN: "jobs in hand are finished"},
)
read, take, split, describe = _words.read, _words.take, _words.split, _words.describe
