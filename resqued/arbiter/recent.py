"""The last events of the arbiter, for `resquedctl events` and `top`. Runs in the arbiter.

It is fed from one place: what the arbiter tells the log is an event, with the name and the fields
that it has there (`log_events`), whatever the level of the log. They survive a re-exec.
"""

from __future__ import annotations

import itertools
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from resqued.logs import LogEvent, redact
from resqued.printable import one_line

MOST: Final = 200
"""Events that are kept."""

_LEFT_OUT: Final = ("time", "event", "level", "text", "traceback")

_LONGEST: Final = 1000
"""Characters of a value; what is longer is in the log."""

_PACKET: Final = 48 * 1024
"""Bytes of events in one packet of the control socket, which has room for some more."""

Event = dict[str, Any]
"""`time` (seconds since the epoch), `event` (its name), and its fields, plain JSON."""


class Recent:
    """The events. Any thread of the arbiter may add one."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._kept: deque[tuple[int, Event]] = deque(maxlen=MOST)
        self._numbers = itertools.count(1)

    def add(self, event: str, **fields: Any) -> None:
        """Note an event. What is no plain JSON becomes text, and long texts are cut."""
        plain = {name: _plain(value) for name, value in fields.items() if value is not None}
        told = {"time": round(self._clock(), 3), "event": event, **plain}
        self._kept.append((next(self._numbers), told))

    def note(self, level: str, text: str, event: LogEvent, fields: Mapping[str, Any]) -> None:
        """Note what is told to the log, unless it is for debugging. A traceback is only there."""
        if level != "DEBUG":
            facts = {name: value for name, value in fields.items() if name not in _LEFT_OUT}
            self.add(str(event), level=level, text=redact(text), **facts)

    def since(self, number: int) -> list[tuple[int, Event]]:
        """What has come after this one, with its number, as far as it is kept."""
        return [each for each in self._kept.copy() if each[0] > number]

    def as_plain(self) -> list[Event]:
        """For a re-exec."""
        return [event for _, event in self._kept.copy()]

    def restore(self, plain: Iterable[Event]) -> None:
        """What the image before has left. Called first."""
        self._kept = deque([*((0, event) for event in plain), *self._kept], maxlen=MOST)


class RecentStream:
    """The events for one client of the control socket. follows: also those to come."""

    def __init__(self, recent: Recent, *, follows: bool) -> None:
        self._recent = recent
        self._told = -1  # those of the image before have the number 0
        self.follows = follows

    def take(self) -> Iterator[dict[str, Any]]:
        """The facts of each packet that is to be sent now."""
        packet: list[Event] = []
        size = 0
        for number, event in self._recent.since(self._told):
            self._told = max(self._told, number)
            length = len(json.dumps(event))
            if packet and size + length > _PACKET:
                yield {"events": packet}
                packet, size = [], 0
            packet.append(event)
            size += length + 2
        if packet:
            yield {"events": packet}


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | None):
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in list(value)[:20]]
    return one_line(str(value))[:_LONGEST]
