"""What TERM means for a job in hand: `now` or `drain`, for all queues or for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

NOW: Final = "now"
"""Interrupted and put back at the front of its queue."""

DRAIN: Final = "drain"
"""Finished, as with QUIT."""

_WORDS: Final = (NOW, DRAIN)


def read(text: str) -> str:
    """`now`, `drain` or `QUEUE=now|drain`, without blanks around it. Raises ValueError."""
    queue, equals, word = text.strip().rpartition("=")
    if word not in _WORDS or (equals and not queue):
        raise ValueError(f"{text!r} is neither now nor drain; for one queue write NAME=drain")
    return f"{queue.strip()}={word}" if equals else word


def take(value: Any) -> tuple[str, ...]:
    """From the config file: one text, a list of them, or `{"payments": "drain"}`."""
    if isinstance(value, Mapping):
        value = [f"{queue}={word}" for queue, word in value.items()]
    elif isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{value!r} is neither now nor drain, nor a list or dict of them")
    return tuple(map(read, value))


def split(terms: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The word for all queues, the last that is given, and the queues that have their own."""
    general, own = NOW, {}
    for text in terms:
        queue, equals, word = text.rpartition("=")
        if equals:
            own[queue] = word
        else:
            general = word
    return general, own


def describe(terms: Sequence[str]) -> str:
    """One sentence for the banner and `--check`."""
    general, own = split(terms)
    words = {NOW: "jobs in hand are put back and run again", DRAIN: "jobs in hand are finished"}
    text = f"TERM: {words[general]}"
    differing = {queue: word for queue, word in own.items() if word != general}
    if differing:
        text += "; " + ", ".join(f"those of {queue}: {word}" for queue, word in differing.items())
    return text
