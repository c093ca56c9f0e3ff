"""A setting that is one of two words, for all queues or for one: `fork`, `reports=fork`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

REST: Final = "*"
"""In the config file: all queues that have no word of their own."""


@dataclass(frozen=True)
class QueueWords:
    """default: the word where nobody says one. other: the other word. title: of the sentence that
    tells of it; meaning: what it says of either word."""

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
        """One sentence for the banner and `--check`."""
        general, own = self.split(texts)
        text = f"{self.title}: {self.meaning[general]}"
        differing = [f"those of {name}: {word}" for name, word in own.items() if word != general]
        return f"{text}; {', '.join(differing)}" if differing else text
