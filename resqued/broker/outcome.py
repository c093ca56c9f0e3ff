"""The outcome of a job, as a step's script has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

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


class Finished(NamedTuple):
    """A plain success, whose commands the script knows.

    ttl: seconds that job and result are kept; -1: for good. score: in the registry of what is
    finished. seconds: that the job took. counted: its hash has counters of ours, to be cleared.
    depends: on other jobs. started, ended: as RQ writes them; then in seconds. value: what it
    returned, as RQ writes it; None: nothing.
    """

    execution_id: str
    job_id: str
    queue: str
    ttl: int
    score: str
    seconds: float
    counted: bool
    depends: bool
    started: str
    ended: str
    started_at: float
    ended_at: float
    value: bytes | None

    def pack(self, wire: Packs) -> tuple[int, bytes]:
        words = (
            self.execution_id,
            self.job_id,
            self.queue,
            "finished",
            self.ttl,
            self.score,
            self.seconds,
            "1" if self.counted else "",
            "1" if self.depends else "",
            self.started,
            self.ended,
            self.started_at,
            self.ended_at,
        )
        if self.value is None:
            return len(words), bulk(words)
        return len(words) + 1, bulk((*words, self.value))
