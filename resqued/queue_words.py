"""Settings that are one of two words, for all queues or for one: `fork`, `reports=fork`.

`on_term`: what TERM means for a job in hand. `isolation`: in which process a job runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

NOW: Final = "now"
"""On TERM a job is interrupted and put back at the front of its queue."""

DRAIN: Final = "drain"
"""On TERM a job is finished, as with QUIT."""

WORKER: Final = "worker"
"""A job runs in the worker's process, one after another."""

FORK: Final = "fork"
"""A job runs in a process that the worker forks for it."""

REST: Final = "*"
"""In the config file: all queues that have no word of their own."""


@dataclass(frozen=True)
class QueueWords:
    """One such setting.

    title: of the sentence that describes it. default: the word where none is given. other: the
    other word. meaning: what the sentence says of each word.
    """

    title: str
    default: str
    other: str
    meaning: Mapping[str, str]

    def read(self, text: str) -> str:
        """A word, or `QUEUE=WORD`, without blanks around them. Raises ValueError."""
        queue, equals, word = map(str.strip, text.rpartition("="))
        if word not in self.meaning or (equals and not queue):
            what = f"neither {self.default} nor {self.other}; for one queue write"
            raise ValueError(f"{text!r} is {what} NAME={self.other}")
        return f"{queue}={word}" if equals and queue != REST else word

    def take(self, value: Any) -> tuple[str, ...]:
        """From the config file: one text, a list of them, or a dict such as
        `{"reports": "fork", "*": "worker"}`. Raises ValueError."""
        if isinstance(value, Mapping):
            value = [f"{queue}={word}" for queue, word in value.items()]
        elif isinstance(value, str):
            value = [value]
        if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
            what = f"neither {self.default} nor {self.other}, nor a list or dict of them"
            raise ValueError(f"{value!r} is {what}")
        return tuple(map(self.read, value))

    def split(self, texts: Sequence[str]) -> tuple[str, dict[str, str]]:
        """The word for all queues, the last that is given, and the queues that have their own."""
        general, own = self.default, {}
        for text in texts:
            queue, equals, word = text.rpartition("=")
            if equals:
                own[queue] = word
            else:
                general = word
        return general, own

    def describe(self, texts: Sequence[str]) -> str:
        """One sentence for the log and `--check`."""
        general, own = self.split(texts)
        text = f"{self.title}: {self.meaning[general]}"
        differing = [f"those of {name}: {word}" for name, word in own.items() if word != general]
        return f"{text}; {', '.join(differing)}" if differing else text


ON_TERM: Final = QueueWords(
    "TERM",
    NOW,
    DRAIN,
    {NOW: "jobs in hand are put back and run again", DRAIN: "jobs in hand are finished"},
)
ISOLATION: Final = QueueWords(
    "isolation",
    WORKER,
    FORK,
    {WORKER: "jobs run in the worker", FORK: "a child is forked for each job"},
)


def forks(isolation: Sequence[str]) -> bool:
    """Whether the jobs of any queue run in children."""
    general, own = ISOLATION.split(isolation)
    return FORK in (general, *own.values())
