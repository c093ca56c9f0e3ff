"""The setting `isolation`: whether a queue's jobs run in the worker, or each in a child of its
own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from resqued.queue_words import QueueWords

WORKER: Final = "worker"
"""In the worker's process, one job after another."""

FORK: Final = "fork"
"""In a process that the worker forks for the job."""

_words: Final = QueueWords(
    "isolation",
    WORKER,
    FORK,
    {WORKER: "jobs run in the worker", FORK: "a child is forked for each job"},
)
read, take, split, describe = _words.read, _words.take, _words.split, _words.describe


def forks(texts: Sequence[str]) -> bool:
    """Whether the jobs of any queue run in children."""
    general, own = split(texts)
    return FORK in (general, *own.values())
