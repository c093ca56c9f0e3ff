"""The scoreboard: one memfd that says what every worker is doing.

A header page, then one page a slot; page 0 of the records belongs to a trial worker. It is
sparse and never resized. Writing a record costs no system call, so workers do it at every
step of a job; the fork server copies a dead worker's record, the arbiter and `--status` read.

A record's worker part exists twice. The writer fills the half that nobody reads and then
advances the sequence number whose low bit says which half counts, so a worker that is
killed in the middle of a write leaves its last whole record behind.
"""

from __future__ import annotations

import enum
import json
import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, Self

MAGIC: Final = b"resqued\0"
VERSION: Final = 1
"""Of this layout and of the channel's messages; checked in `begin` and on a re-exec."""

MAX_SLOTS: Final = 4095
TRIAL: Final = 0
"""The slot number of a trial worker."""

_PAGE: Final = 4096
_HEADER: Final = struct.Struct("=8sIII")
_SEQUENCE: Final = struct.Struct("=Q")
_LENGTH: Final = struct.Struct("=I")
_CONTROL: Final = struct.Struct("=II")
_WORKER: Final = struct.Struct("=IIiIIiII dddddd QQQ 128s 40s 256s 256s 256s")
_CONTROL_AT: Final = 0
_SEQUENCE_AT: Final = 64
_HALVES_AT: Final = (128, 2048)
_SUMMARY_AT: Final = 64


class Phase(enum.IntEnum):
    """How far a worker has come. TAKEN to WRITTEN hold a job; recovery goes by them alone."""

    EMPTY = 0
    BOOTING = 1
    CONNECTING = 2
    IDLE = 3
    TAKEN = 4  # the id left its queue; no execution exists
    PREPARED = 5  # the execution exists; user code has not begun
    RUNNING = 6  # user code
    RETURNED = 7  # user code is over; the outcome is being written
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

    @property
    def deliberate(self) -> bool:
        return self in (Reason.ASKED, Reason.RECYCLED, Reason.BURST, Reason.CUT, Reason.ORPHANED)


class Stop(enum.IntEnum):
    """The stop word: what the arbiter wants of a worker."""

    NONE = 0
    DRAIN = 1  # finish the job, then leave
    NOW = 2  # interrupt the job, put it back, leave


@dataclass(frozen=True)
class Record:
    """The worker part. Times are seconds on the monotonic clock, 0 when not set."""

    phase: Phase = Phase.EMPTY
    reason: Reason = Reason.NONE
    pid: int = 0
    generation: int = 0
    serial: int = 0
    horse: int = 0  # pid of a forking worker class's horse while it runs a job
    overflow: int = 0  # 1: the job id is longer than 255 bytes; look it up in Redis
    stopped: int = 0  # 1: somebody asked to stop this job; it must not be retried
    started: float = 0.0
    heartbeat: float = 0.0
    deadline: float = 0.0  # to be judged stuck after it; 0: never
    job_started: float = 0.0
    job_timeout: float = 0.0  # seconds, -1: none
    ready: float = 0.0  # when it first became ready
    done: int = 0  # jobs that ended, whatever the outcome
    failed: int = 0
    memory: int = 0  # bytes resident, as of the last job
    name: str = ""
    execution_id: str = ""
    job_id: str = ""
    queue: str = ""
    function: str = ""

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


def _pack(record: Record) -> bytes:
    texts = [
        record.name.encode()[:128],
        record.execution_id.encode()[:40],
        record.job_id.encode()[:255],
        record.queue.encode()[:255],
        record.function.encode()[:255],
    ]
    return _WORKER.pack(
        record.phase,
        record.reason,
        record.pid,
        record.generation,
        record.serial,
        record.horse,
        record.overflow,
        record.stopped,
        record.started,
        record.heartbeat,
        record.deadline,
        record.job_started,
        record.job_timeout,
        record.ready,
        record.done,
        record.failed,
        record.memory,
        *texts,
    )


def _unpack(raw: bytes) -> Record:
    values = _WORKER.unpack(raw)
    numbers, texts = values[:17], values[17:]
    phase, reason, *rest = numbers
    strings = [text.rstrip(b"\0").decode(errors="replace") for text in texts]
    return Record(Phase(phase), Reason(reason), *rest, *strings)


class Scoreboard:
    """A mapping of the scoreboard. The arbiter creates it; everyone else opens its descriptor."""

    def __init__(self, fd: int, *, writable: bool = True) -> None:
        self.fd = fd
        size = os.fstat(fd).st_size
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self._map = mmap.mmap(fd, size, flags=mmap.MAP_SHARED, prot=protection)
        magic, version, page, slots = _HEADER.unpack_from(self._map, 0)
        if magic != MAGIC:
            raise ValueError("not a resqued scoreboard")
        if (version, page) != (VERSION, _PAGE):
            raise ValueError(f"scoreboard version {version}, this resqued speaks {VERSION}")
        self.slots: int = slots

    @classmethod
    def create(cls) -> Self:
        """Make the memfd. Runs in the arbiter, once in its life. Raises OSError."""
        fd = os.memfd_create("resqued-scoreboard", os.MFD_CLOEXEC)
        os.ftruncate(fd, _PAGE * (MAX_SLOTS + 2))
        os.pwrite(fd, _HEADER.pack(MAGIC, VERSION, _PAGE, MAX_SLOTS), 0)
        return cls(fd)

    def _page(self, slot: int) -> int:
        if not 0 <= slot <= self.slots:
            raise ValueError(f"no slot {slot}: the scoreboard has {self.slots}")
        return _PAGE * (slot + 1)

    def read(self, slot: int) -> Record:
        """The last whole record of a slot."""
        page = self._page(slot)
        while True:
            (before,) = _SEQUENCE.unpack_from(self._map, page + _SEQUENCE_AT)
            at = page + _HALVES_AT[before & 1]
            raw = self._map[at : at + _WORKER.size]
            (after,) = _SEQUENCE.unpack_from(self._map, page + _SEQUENCE_AT)
            if after - before < 2:  # the half we copied was not the one being written
                return _unpack(raw)

    def write(self, slot: int, record: Record) -> None:
        """Replace a slot's record. Only the slot's worker does (or its fork server, before it)."""
        page = self._page(slot)
        (sequence,) = _SEQUENCE.unpack_from(self._map, page + _SEQUENCE_AT)
        at = page + _HALVES_AT[(sequence + 1) & 1]
        self._map[at : at + _WORKER.size] = _pack(record)
        _SEQUENCE.pack_into(self._map, page + _SEQUENCE_AT, sequence + 1)

    def stop_word(self, slot: int) -> Stop:
        word, _ = _CONTROL.unpack_from(self._map, self._page(slot) + _CONTROL_AT)
        return Stop(word)

    def set_stop(self, slot: int, word: Stop) -> None:
        """Runs in the arbiter; NONE before each fork, so that no successor reads an old word."""
        _CONTROL.pack_into(self._map, self._page(slot) + _CONTROL_AT, word, 0)

    def used(self) -> Iterator[int]:
        """Slots that were ever written to. Reading one of the others would make its page exist."""
        at = _PAGE
        while True:
            try:
                at = os.lseek(self.fd, at, os.SEEK_DATA)
                end = os.lseek(self.fd, at, os.SEEK_HOLE)
            except OSError:  # ENXIO: nothing but holes from here on
                return
            yield from range(at // _PAGE - 1, min(end // _PAGE - 1, self.slots + 1))
            at = end

    def summary(self) -> dict[str, Any]:
        """The arbiter's part, as `set_summary` wrote it; empty before the first."""
        while True:
            (before,) = _SEQUENCE.unpack_from(self._map, _SUMMARY_AT)
            (length,) = _LENGTH.unpack_from(self._map, _SUMMARY_AT + 8)
            raw = self._map[_SUMMARY_AT + 12 : _SUMMARY_AT + 12 + length]
            (after,) = _SEQUENCE.unpack_from(self._map, _SUMMARY_AT)
            if before == after and not before & 1:
                return json.loads(raw) if raw else {}
            if before & 1 and before == after:  # its writer is stopped, or died, in the middle
                return {}

    def set_summary(self, summary: dict[str, Any]) -> None:
        """Write the arbiter's part. Values are cut when they would not fit the header page."""
        raw = json.dumps(summary).encode()
        if len(raw) > _PAGE - _SUMMARY_AT - 12:
            summary = {
                key: value[:200] if isinstance(value, str) else value
                for key, value in summary.items()
            }
            raw = json.dumps(summary).encode()
        (sequence,) = _SEQUENCE.unpack_from(self._map, _SUMMARY_AT)
        _SEQUENCE.pack_into(self._map, _SUMMARY_AT, sequence | 1)
        _LENGTH.pack_into(self._map, _SUMMARY_AT + 8, len(raw))
        self._map[_SUMMARY_AT + 12 : _SUMMARY_AT + 12 + len(raw)] = raw
        _SEQUENCE.pack_into(self._map, _SUMMARY_AT, (sequence | 1) + 1)

    def close(self) -> None:
        self._map.close()
        os.close(self.fd)


class RecordWriter:
    """A worker's pen: keeps the current record and writes each change of it."""

    def __init__(self, scoreboard: Scoreboard, slot: int, record: Record) -> None:
        self._scoreboard = scoreboard
        self.slot = slot
        self.record = record
        scoreboard.write(slot, record)

    def update(self, **changes: Any) -> None:
        """Change some fields and publish the whole record. Costs no system call."""
        self.record = replace(self.record, **changes)
        self._scoreboard.write(self.slot, self.record)

    @property
    def fd(self) -> int:
        """The scoreboard's descriptor: one file for all workers, of any generation."""
        return self._scoreboard.fd

    @property
    def stop(self) -> Stop:
        """The arbiter's stop word for this slot."""
        return self._scoreboard.stop_word(self.slot)
