"""The outcome of a job, as a step's script has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from resqued.broker.wire import bulk


class Packs(Protocol):
    """What makes bytes of words."""

    def encode(self, words: Any) -> bytes: ...


class Ending(Protocol):
    """An outcome of the job in hand."""

    def pack(self, wire: Packs) -> tuple[int, bytes]:
        """How many words it has, and the words. Raises DataError."""


@dataclass(frozen=True)
class Recorded:
    """An outcome as RQ's own code writes it. commands: each with its words."""

    execution_id: str
    job_id: str
    queue: str
    commands: Sequence[Sequence[Any]]

    def pack(self, wire: Packs) -> tuple[int, bytes]:
        words: list[Any] = [self.execution_id, self.job_id, self.queue, ""]
        for command in self.commands:
            words.append(len(command))
            words += command
        return len(words), wire.encode(words)


@dataclass(frozen=True)
class Finished:
    """A plain success, whose commands the script knows.

    ttl: seconds that job and result are kept; -1: for good. score: in the registry of what is
    finished. seconds: that the job took. counted: its hash has counters of ours, to be cleared.
    depends: on other jobs. fields: of its hash, names and values. result: fields of its result,
    the same.
    """

    execution_id: str
    job_id: str
    queue: str
    ttl: int
    score: str
    seconds: float
    counted: bool
    depends: bool
    fields: Sequence[Any]
    result: Sequence[Any]

    def pack(self, wire: Packs) -> tuple[int, bytes]:
        words: list[Any] = [
            self.execution_id,
            self.job_id,
            self.queue,
            "finished",
            self.ttl,
            self.score,
            self.seconds,
            "1" if self.counted else "",
            "1" if self.depends else "",
            len(self.fields),
            *self.fields,
            *self.result,
        ]
        return len(words), bulk(words)
