"""A job's story: what has happened to it out of the ordinary, for `resquedctl why`.

A stream of the last events under a key of the job's, which lives for a week after the last of them.
An event is added by the transaction or the script that does what it tells of. A job that is taken,
runs and ends has none, so it costs nothing. That a job has failed or finished RQ's own results say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Self

from rq.defaults import RQ_KEY_PREFIX

from resqued.broker.bad_data import text_of
from resqued.printable import printable

STORIES: Final = f"{RQ_KEY_PREFIX}:resqued:story:"
"""Prefix of the keys of stories; the job's id follows."""

MOST: Final = 20
"""Events of a job that are kept."""

KEPT: Final = 7 * 24 * 3600
"""Seconds."""

_LONGEST: Final = 500  # characters of a cause


@dataclass(frozen=True)
class StoryEvent:
    """What became of a job, and why. Its time is that of the entry in Redis."""

    what: str
    """put_back, retried, failed or stopped."""
    cause: str
    """In plain words, on one line."""
    host: str = ""
    worker: str = ""  # its name in RQ
    number: int = 0  # of its slot; 0: not known
    generation: int = 0  # 0: not known
    memory: int = 0  # bytes that its process had; only where memory was out
    left: int = -1  # retries left; -1: it has none to count

    def as_fields(self) -> list[str]:
        """Names and values, without those that say nothing."""
        found = {"what": self.what, "cause": one_line(self.cause)}
        known = {"host": self.host, "worker": self.worker, "number": self.number}
        known |= {"generation": self.generation, "memory": self.memory}
        found |= {name: str(value) for name, value in known.items() if value}
        if self.left >= 0:
            found["left"] = str(self.left)
        return [word for pair in found.items() for word in pair]

    def as_argument(self) -> str:
        """For the scripts that have `tell.lua` in them."""
        return json.dumps([STORIES, str(MOST), str(KEPT), *self.as_fields()])

    @classmethod
    def from_fields(cls, raw: Mapping[Any, Any]) -> Self | None:
        """The inverse of `as_fields`; None for what resqued has not written."""
        texts = {text_of(name): text_of(value) for name, value in raw.items()}
        if not texts.get("what"):
            return None
        values: dict[str, Any] = {"cause": ""}
        for each in fields(cls):
            text = texts.get(each.name)
            if text is None:
                continue
            try:
                values[each.name] = int(text) if each.type == "int" else text
            except ValueError:
                return None
        return cls(**values)


def add(pipeline: Any, job_id: str, event: StoryEvent | None) -> None:
    """Add an event to the transaction that does what it tells of; None: nothing."""
    if event is None:
        return
    words = event.as_fields()
    pairs: Any = dict(zip(words[::2], words[1::2], strict=True))
    pipeline.xadd(STORIES + job_id, pairs, maxlen=MOST, approximate=False)
    pipeline.expire(STORIES + job_id, KEPT)


def read(entries: Any) -> list[tuple[float, StoryEvent]]:
    """The events with their times, unix seconds. entries: as XRANGE gives them."""
    found = []
    for entry_id, raw in entries:
        event = StoryEvent.from_fields(raw)
        if event is not None:
            found.append((int(bytes(entry_id).partition(b"-")[0]) / 1000, event))
    return found


def one_line(text: str) -> str:
    """Of a text that others have chosen: on one line, printable, and not too long."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def last_line(traceback: str) -> str:
    """Of a traceback: the exception and its text."""
    lines = [line for line in traceback.splitlines() if line.strip()]
    for at in range(len(lines) - 1, -1, -1):
        if lines[at].startswith("  File "):  # what follows the last frame and its source
            rest = [line for line in lines[at + 1 :] if not line.startswith("  ")]
            return one_line(" ".join(rest) or lines[-1])
    return one_line(" ".join(lines[-2:]) if lines else "")
