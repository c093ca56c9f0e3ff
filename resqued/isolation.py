"""Where a job runs: in its worker (`worker`) or in a child of its own (`fork`), by queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

WORKER: Final = "worker"
"""In the worker's process, one job after another."""

FORK: Final = "fork"
"""In a process that the worker forks for it."""

REST: Final = "*"
"""In the config file: all queues that have no word of their own."""

_WORDS: Final = (WORKER, FORK)


def read(text: str) -> str:
    """`worker`, `fork` or `QUEUE=worker|fork`, without blanks around it. Raises ValueError."""
    queue, equals, word = text.strip().rpartition("=")
    queue = queue.strip()
    if word.strip() not in _WORDS or (equals and not queue):
        raise ValueError(f"{text!r} is neither worker nor fork; for one queue write NAME=fork")
    return f"{queue}={word.strip()}" if equals and queue != REST else word.strip()


def take(value: Any) -> tuple[str, ...]:
    """From the config file: one text, a list of them, or `{"reports": "fork", "*": "worker"}`."""
    if isinstance(value, Mapping):
        value = [f"{queue}={word}" for queue, word in value.items()]
    elif isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{value!r} is neither worker nor fork, nor a list or dict of them")
    return tuple(map(read, value))


def split(texts: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The word for all queues, the last that is given, and the queues that have their own."""
    general, own = WORKER, {}
    for text in texts:
        queue, equals, word = text.rpartition("=")
        if equals:
            own[queue] = word
        else:
            general = word
    return general, own


def forks(texts: Sequence[str]) -> bool:
    """Whether the jobs of any queue run in children."""
    general, own = split(texts)
    return FORK in (general, *own.values())


def describe(texts: Sequence[str]) -> str:
    """One sentence for the banner and `--check`."""
    general, own = split(texts)
    words = {WORKER: "jobs run in the worker", FORK: "a child is forked for each job"}
    text = f"isolation: {words[general]}"
    differing = {queue: word for queue, word in own.items() if word != general}
    if differing:
        text += "; " + ", ".join(f"those of {queue}: {word}" for queue, word in differing.items())
    return text
