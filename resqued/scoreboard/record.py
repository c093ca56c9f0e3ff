"""A worker's record: its phase, its job and its counters. One record a slot.

A packed record has a fixed size; long texts are cut. Times are seconds on the monotonic clock,
which all processes of a machine share.
"""

from __future__ import annotations

import enum
import itertools
import mmap
import operator
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, Self

_NUMBERS: Final = struct.Struct("=IIiIIiII dddddd QQQQQQQ")
_WORKER: Final = struct.Struct(f"{_NUMBERS.format} 128s 40s 40s 256s 256s 256s 256s 16s")
SIZE: Final = _WORKER.size
"""Bytes of a packed record."""

LATEST: Final = 1e15
"""Seconds; more than any monotonic clock shows."""

LONGEST_ID: Final = 255
"""Bytes of a job's id, or a queue's name, that a record has room for."""


class Phase(enum.IntEnum):
    """How far a worker has come. TAKEN to WRITTEN hold a job; recovery goes by them alone."""

    EMPTY = 0
    BOOTING = 1
    CONNECTING = 2
    IDLE = 3
    TAKEN = 4  # the id left its queue; no execution exists
    PREPARED = 5  # the execution exists; user code has not begun
    RUNNING = 6  # user code
    RETURNED = 7  # user code has ended; the outcome is being written
    WRITTEN = 8  # the execution was seen gone
    LEAVING = 9
    LEFT = 10  # deregistered; nothing to recover

    @property
    def holds_job(self) -> bool:
        return Phase.TAKEN <= self <= Phase.WRITTEN


class Reason(enum.IntEnum):
    """Why a worker leaves by itself; a deliberate one is not a failure of its slot."""

    NONE = 0
    ASKED = 1  # a stop word or a signal
    RECYCLED = 2
    BURST = 3  # its queues are empty
    CUT = 4  # its job was cut by a timeout, a stop or an interrupt
    ORPHANED = 5  # its fork server is gone
    BOOT = 6  # after_fork, worker_ready or an import failed
    LOOP = 7  # its loop ended unasked (an RQ worker swallows the cause and exits 0)
    UNREADABLE = 8  # it could not read its jobs, one after another

    @property
    def deliberate(self) -> bool:
        return self in (Reason.ASKED, Reason.RECYCLED, Reason.BURST, Reason.CUT, Reason.ORPHANED)


@dataclass(frozen=True)
class Record:
    """The worker part. Times are seconds on the monotonic clock, 0 when not set."""

    phase: Phase = Phase.EMPTY
    reason: Reason = Reason.NONE
    pid: int = 0
    generation: int = 0
    serial: int = 0
    horse: int = 0  # pid of the process that the worker has forked for the job in hand
    overflow: int = 0  # 1: the job id is longer than 255 bytes; look it up in Redis
    stopped: int = 0  # the Order that has cut this job; after STOP or FAIL it is not retried
    started: float = 0.0
    heartbeat: float = 0.0
    deadline: float = 0.0  # to be judged stuck after it; 0: never
    job_started: float = 0.0
    job_timeout: float = 0.0  # seconds, -1: none
    ready: float = 0.0  # when it first became ready
    done: int = 0  # jobs that ended, whatever the outcome
    failed: int = 0
    memory: int = 0  # bytes resident at the last job's end, or a tenth of a second before
    ticks: int = 0  # when the process began, in clock ticks since the boot: with it a pid is unique
    job_ticks: int = 0  # when the job began, on the same clock: what it has started is not older
    horse_ticks: int = 0  # when that process began, on the same clock; 0: not known
    lost: int = 0  # jobs whose process has died while the worker lived on
    name: str = ""
    execution_id: str = ""
    token: str = ""  # the execution that a step (broker/step.lua) under way may start
    job_id: str = ""
    queue: str = ""
    function: str = ""
    lost_job: str = ""  # the last of the lost jobs
    lost_verdict: str = ""  # what became of it, as the hook job_lost has it

    def as_plain(self) -> dict[str, Any]:
        """The record as JSON can carry it."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        known = {field.name for field in fields(cls)}
        values = {name: value for name, value in plain.items() if name in known}
        values["phase"] = Phase(values.get("phase", 0))
        values["reason"] = Reason(values.get("reason", 0))
        return cls(**values)


_FIELDS: Final = tuple(field.name for field in fields(Record))
_COUNT: Final = 21  # of them are numbers
_NAMES: Final = frozenset(_FIELDS)
_PIDS: Final = tuple(map(_FIELDS.index, ("pid", "horse")))
_TIMEOUT: Final = _FIELDS.index("job_timeout")
_TIMES: Final = tuple(
    map(_FIELDS.index, ("started", "heartbeat", "deadline", "job_started", "ready"))
)
_numbers_of: Final = operator.attrgetter(*_FIELDS[:_COUNT])


_PLACES: Final = {
    "name": (128, 128),
    "execution_id": (40, 40),
    "token": (40, 40),
    "job_id": (255, 256),
    "queue": (255, 256),
    "function": (255, 256),
    "lost_job": (255, 256),
    "lost_verdict": (16, 16),
}
"""Bytes that a text may have, and the room it takes."""


def pack(record: Record) -> bytes:
    """The record as bytes, for the scoreboard."""
    return pack_numbers(record) + b"".join([pack_text(record, name) for name in _PLACES])


def pack_numbers(record: Record) -> bytes:
    """The first part of a packed record."""
    return _NUMBERS.pack(*_numbers_of(record))


def pack_text(record: Record, name: str) -> bytes:
    """A text in its place; all of them, in order, are the second part."""
    longest, room = _PLACES[name]
    text: str = getattr(record, name)
    return text.encode()[:longest].ljust(room, b"\0")


def unpack(raw: bytes) -> Record:
    """The inverse of `pack`. raw: SIZE bytes. Never raises.

    Job code can write over any page of the scoreboard. An unknown phase means that the record
    was overwritten: it is read as empty until its worker writes the next. Other values are brought
    into their range.
    """
    numbers = list(_WORKER.unpack(raw))
    texts = numbers[_COUNT:]
    try:
        phase, reason = Phase(numbers[0]), Reason(numbers[1])
    except ValueError:
        return Record()
    numbers[:2] = phase, reason
    for place in _PIDS:
        if numbers[place] < 0:
            numbers[place] = 0
    for place in _TIMES:
        numbers[place] = moment(numbers[place])
    numbers[_TIMEOUT] = moment(numbers[_TIMEOUT], least=-1.0)
    numbers[_COUNT:] = [
        text.rstrip(b"\0").decode(errors="replace") if text[0] else "" for text in texts
    ]
    record = Record.__new__(Record)  # a frozen class takes far longer to initialize itself
    vars(record).update(zip(_FIELDS, numbers, strict=True))
    return record


_GLANCE: Final = struct.Struct("=I76xQ")


def glance(memory: mmap.mmap, at: int) -> tuple[int, int]:
    """The phase (a number) and the jobs done of the packed record at this offset."""
    phase, done = _GLANCE.unpack_from(memory, at)
    return phase, done


def moment(seconds: float, least: float = 0.0) -> float:
    """A time, or 0 if it is NaN, infinite or less than `least`."""
    return seconds if least <= seconds < LATEST else 0.0


_FORMATS: Final = _NUMBERS.format.replace(" ", "")[1:]
_AT: Final = {
    name: (struct.Struct(f"={kind}"), struct.calcsize(f"={_FORMATS[:number]}"))
    for number, (name, kind) in enumerate(zip(_FIELDS, _FORMATS, strict=False))
}
"""Where a number lies in a packed record."""

_TEXTS_AT: Final = dict(
    zip(
        _PLACES,
        itertools.accumulate((room for _, room in _PLACES.values()), initial=_NUMBERS.size),
        strict=False,
    )
)


class PackedRecord:
    """A record together with its packed bytes. A change packs only the changed fields, because
    every job changes a record several times."""

    def __init__(self, record: Record) -> None:
        self.record = replace(record)
        self.raw = bytearray(pack(record))

    def change(self, changes: Mapping[str, Any]) -> None:
        """Raises TypeError for a field that a record does not have."""
        if not changes.keys() <= _NAMES:
            raise TypeError(f"a record has no field {', '.join(sorted(changes.keys() - _NAMES))}")
        values = vars(self.record)
        for name, value in changes.items():
            if values[name] == value:
                continue
            values[name] = value
            if (place := _AT.get(name)) is not None:
                place[0].pack_into(self.raw, place[1], value)
            else:
                at = _TEXTS_AT[name]
                text = pack_text(self.record, name)
                self.raw[at : at + len(text)] = text
