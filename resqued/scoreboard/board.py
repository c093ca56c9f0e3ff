"""The scoreboard: one memfd that says what every worker is doing.

It has a header page with the steward's status, one page a slot, areas (the arbiter's summary for
`--status`, the steward's facts, the paused queues), and the bells on which idle workers sleep.
Page 0 of the records belongs to a trial worker. A slot's page has a part that the arbiter writes
(words) and one that the worker writes (its record). The file is sparse and never resized. Writing a
record costs no system call, so workers do it at every step of a job; the fork server copies a dead
worker's record, the arbiter, the steward and `--status` read.

A record exists twice. The writer fills the half that is not in use and then advances the sequence
number, whose low bit says which half is valid. So a worker that is killed in the middle of a write
leaves its last complete record behind.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import time
from collections.abc import Iterator
from typing import Any, Final, Self

from resqued.open_files import identity
from resqued.scoreboard.area import Area
from resqued.scoreboard.bell import Bell
from resqued.scoreboard.counts import ARBITER_SIZE, SLOT_SIZE
from resqued.scoreboard.record import SIZE, PackedRecord, Record, glance, moment, pack, unpack
from resqued.scoreboard.words import Order, StewardStatus, Stop, StopCause

MAGIC: Final = b"resqued\0"
VERSION: Final = 9
"""Of this layout and of the channel's messages; checked in `begin` and on a re-exec."""

MAX_SLOTS: Final = 4095
TRIAL: Final = 0
"""The slot number of a trial worker."""

_PAGE: Final = 4096
_BLANK: Final = bytes(_PAGE)
_HEADER: Final = struct.Struct("=8sIII")
_SEQUENCE: Final = struct.Struct("@Q")
_STATUS: Final = struct.Struct("@IIddd")
_MOMENT: Final = struct.Struct("@d")
_STOP: Final = struct.Struct("@I")
_ORDER: Final = struct.Struct("@I40s")
_NEWBORN: Final = struct.Struct("@Ii")
_PID: Final = struct.Struct("@i")
_CALLS: Final = struct.Struct("@I")
_STATUS_AT: Final = 24
_ASKED_AT: Final = _STATUS_AT + 24
_MAINTAINED_AT: Final = 56
_NEWBORN_AT: Final = 64
_CALLS_AT: Final = 72
_TURNED_AT: Final = 80
_DUTIES_AT: Final = 88
_STOP_AT: Final = 0
_ORDER_AT: Final = 4
_CAUSE_AT: Final = 48
_SEQUENCE_AT: Final = 64
_HALVES_AT: Final = (128, 1792)
_REASON_AT: Final = 3456
_REASON_SIZE: Final = 640
_AREA: Final = 4 * 2**20
"""Bytes reserved for each area; unused pages take no memory."""
_SUMMARY_AT: Final = _PAGE * (MAX_SLOTS + 2)
_FACTS_AT: Final = _SUMMARY_AT + _AREA
_PAUSED_AT: Final = _FACTS_AT + _AREA
_ARBITER_COUNTS_AT: Final = _PAUSED_AT + _AREA
_COUNTS_AT: Final = _ARBITER_COUNTS_AT + ARBITER_SIZE
_BELLS_AT: Final = _COUNTS_AT + SLOT_SIZE * (MAX_SLOTS + 1)
_BELLS: Final = 2**20
"""So many that two names rarely share one; here too unused pages take no memory."""


Seen = tuple[int, Record]
"""A record, and the sequence number under which it, or an older one, was written."""


class Scoreboard:
    """A mapping of the scoreboard. The arbiter creates it; other processes open its descriptor."""

    def __init__(self, fd: int, *, writable: bool = True) -> None:
        self.fd = fd
        self._is = identity(fd)
        self._lost: list[mmap.mmap] = []
        self._size = size = os.fstat(fd).st_size
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self._map = mmap.mmap(fd, size, flags=mmap.MAP_SHARED, prot=protection)
        self.words = memoryview(self._map).cast("Q")
        """All of it as 64-bit words, for counts: an assignment is one instruction."""
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
        os.ftruncate(fd, _BELLS_AT + 4 * _BELLS)
        os.pwrite(fd, _HEADER.pack(MAGIC, VERSION, _PAGE, MAX_SLOTS), 0)
        return cls(fd)

    @property
    def is_intact(self) -> bool:
        """Whether the descriptor still leads to it. The mapping does, whatever is closed."""
        return identity(self.fd) == self._is

    def take_descriptor(self, fd: int) -> bool:
        """Have another descriptor of the same memfd in place of one that is lost, if it is one."""
        if identity(fd) != self._is:
            return False
        self.fd = fd
        return True

    def renew(self) -> None:
        """Copy it to a new memfd: the descriptor is lost, and no other process has one. Processes
        that have the old one mapped are not seen any more. Runs in the arbiter. Raises OSError."""
        old, fd = self._map, os.memfd_create("resqued-scoreboard", os.MFD_CLOEXEC)
        os.ftruncate(fd, self._size)
        for at in self._pages(old):
            page = old[at : at + _PAGE]
            if page != _BLANK:  # else it stays sparse
                os.pwrite(fd, page, at)
        self._lost.append(old)  # its end would close a descriptor that is another's by now
        self._map = mmap.mmap(fd, self._size, flags=mmap.MAP_SHARED)
        self.words = memoryview(self._map).cast("Q")
        self.fd, self._is = fd, identity(fd)

    def _pages(self, memory: mmap.mmap) -> Iterator[int]:
        """Where the pages begin that may have been written to. Looking into another one makes it
        exist, so the tables of slots that had no worker are left out."""
        yield from range(0, _COUNTS_AT, _PAGE)
        for slot in range(self.slots + 1):
            page = self._page(slot)
            if memory[page : page + _PAGE] != _BLANK:
                at = self.counts_at(slot)
                yield from range(at, at + SLOT_SIZE, _PAGE)
        yield from range(_BELLS_AT, self._size, _PAGE)

    def mend_header(self) -> None:
        """Write the header again, since job code may have written over it. Runs in the arbiter."""
        self._put(0, _HEADER, MAGIC, VERSION, _PAGE, self.slots)

    def _page(self, slot: int) -> int:
        if not 0 <= slot <= self.slots:
            raise ValueError(f"no slot {slot}: the scoreboard has {self.slots}")
        return _PAGE * (slot + 1)

    def _put(self, at: int, layout: struct.Struct, *values: Any) -> None:
        """Others read meanwhile: `pack_into` would show them zeros first, a copy does not."""
        self._map[at : at + layout.size] = layout.pack(*values)

    def read(self, slot: int) -> Record:
        """The last whole record of a slot."""
        page = self._page(slot)
        while True:
            (before,) = _SEQUENCE.unpack_from(self._map, page + _SEQUENCE_AT)
            at = page + _HALVES_AT[before & 1]
            raw = self._map[at : at + SIZE]
            (after,) = _SEQUENCE.unpack_from(self._map, page + _SEQUENCE_AT)
            if after == before:  # then at most the other half was being written
                return unpack(raw)

    def read_again(self, slot: int, before: Seen | None) -> Seen:
        """The last whole record of a slot, which is unpacked only if there is a newer one.

        before: what this returned for the slot the last time.
        """
        (sequence,) = _SEQUENCE.unpack_from(self._map, self._page(slot) + _SEQUENCE_AT)
        if before is not None and before[0] == sequence:
            return before
        return sequence, self.read(slot)

    def sequence(self, slot: int) -> int:
        """A number that changes with each write to a slot's record."""
        sequence: int = _SEQUENCE.unpack_from(self._map, self._page(slot) + _SEQUENCE_AT)[0]
        return sequence

    def glance(self, slot: int) -> tuple[int, int, int]:
        """The sequence, the phase and the number of jobs done. They may be of two states of the
        record, if it is written twice meanwhile."""
        page = self._page(slot)
        sequence = self.sequence(slot)
        return sequence, *glance(self._map, page + _HALVES_AT[sequence & 1])

    def write(self, slot: int, record: Record) -> None:
        """Replace a slot's record. Only the slot's worker does (or its fork server, before it)."""
        self.write_packed(self._page(slot), pack(record))

    def write_packed(self, page: int, raw: bytes | bytearray) -> None:
        """The same for a packed record. page: where the slot's page begins."""
        at = page + _SEQUENCE_AT
        (sequence,) = _SEQUENCE.unpack_from(self._map, at)
        half = page + _HALVES_AT[(sequence + 1) & 1]
        self._map[half : half + SIZE] = raw
        self._map[at : at + 8] = _SEQUENCE.pack((sequence + 1) % 2**64)

    def stop_word(self, slot: int) -> Stop:
        return self.stop_word_at(self._page(slot))

    def stop_word_at(self, page: int) -> Stop:
        """The same for a page. page: where the slot's page begins."""
        (word,) = _STOP.unpack_from(self._map, page + _STOP_AT)
        return Stop(word) if word else Stop.NONE

    def stop_cause(self, slot: int) -> StopCause:
        """Why a slot has its stop word."""
        (cause,) = _STOP.unpack_from(self._map, self._page(slot) + _CAUSE_AT)
        return StopCause(cause)

    def set_stop(self, slot: int, word: Stop, cause: StopCause = StopCause.NONE) -> None:
        """Runs in the arbiter; NONE before each fork, so that no successor reads an old word."""
        page = self._page(slot)
        self._put(page + _CAUSE_AT, _STOP, cause)
        self._put(page + _STOP_AT, _STOP, word)

    def order(self, slot: int) -> tuple[Order, str]:
        """The order and the id of its execution. Complete once COMMAND has been sent for it."""
        word, execution_id = _ORDER.unpack_from(self._map, self._page(slot) + _ORDER_AT)
        if not word:
            return Order.NONE, ""
        return Order(word), execution_id.rstrip(b"\0").decode(errors="replace")

    def order_reason(self, slot: int) -> str:
        """Why the order was given; empty if it says no more."""
        at = self._page(slot) + _REASON_AT
        return self._map[at : at + _REASON_SIZE].rstrip(b"\0").decode(errors="ignore")

    def set_order(self, slot: int, word: Order, execution_id: str, reason: str = "") -> None:
        """Runs in the arbiter. reason: its first 640 bytes are kept."""
        page = self._page(slot)
        if reason or word is Order.FAIL:
            text = reason.encode(errors="backslashreplace")[:_REASON_SIZE]
            self._map[page + _REASON_AT : page + _PAGE] = text.ljust(_REASON_SIZE, b"\0")
        raw = execution_id.encode()[:40]
        self._put(page + _ORDER_AT, _ORDER, word, raw)

    @property
    def calls(self) -> int:
        """A number that changes with each `call_idle`."""
        (count,) = _CALLS.unpack_from(self._map, _CALLS_AT)
        return int(count)

    def call_idle(self) -> None:
        """Have idle workers look again, where a plugin chooses their queues (`order_queues`): they
        do within `worker.idle.CALLED` seconds. Runs in the arbiter; makes no system call."""
        self._put(_CALLS_AT, _CALLS, (self.calls + 1) % 2**32)

    def newborn(self) -> tuple[int, int]:
        """Serial and pid of the steward that was forked last."""
        serial, pid = _NEWBORN.unpack_from(self._map, _NEWBORN_AT)
        return serial, pid

    def set_newborn(self, serial: int, pid: int) -> None:
        """Runs in a new steward, first: its fork server may die before it can report the fork."""
        self._put(_NEWBORN_AT, _NEWBORN, serial, pid)

    @property
    def duties(self) -> int:
        """The pid of the duties process that was forked last; 0: there is none."""
        pid: int = _PID.unpack_from(self._map, _DUTIES_AT)[0]
        return pid

    @duties.setter
    def duties(self, pid: int) -> None:
        """Runs in the fork server that has forked it, or has seen its end."""
        self._put(_DUTIES_AT, _PID, pid)

    def steward_status(self) -> StewardStatus:
        """The steward's status."""
        serial, suspended, *times = _STATUS.unpack_from(self._map, _STATUS_AT)
        return StewardStatus(serial, suspended == 1, *map(moment, times))

    def set_steward_status(self, steward_status: StewardStatus) -> None:
        """Runs in the steward; in the newest, while there are two."""
        times = (steward_status.turned, steward_status.beaten, steward_status.asked)
        self._put(_STATUS_AT, _STATUS, steward_status.serial, steward_status.suspended, *times)

    @property
    def maintenance_is_due(self) -> bool:
        """Whether the steward has asked for maintenance since a worker last began it."""
        (asked,) = _MOMENT.unpack_from(self._map, _ASKED_AT)
        return moment(asked) > self.maintained

    @property
    def maintained(self) -> float:
        """When a worker last began RQ's maintenance. Seconds, monotonic."""
        (last,) = _MOMENT.unpack_from(self._map, _MAINTAINED_AT)
        return moment(last) if last <= time.monotonic() else 0.0

    @maintained.setter
    def maintained(self, now: float) -> None:
        """Runs in a worker, under the lock of maintenance."""
        self._put(_MAINTAINED_AT, _MOMENT, now)

    @property
    def turned(self) -> float:
        """When the arbiter's loop last turned. Seconds, monotonic; 0: never."""
        (last,) = _MOMENT.unpack_from(self._map, _TURNED_AT)
        return moment(last)

    @turned.setter
    def turned(self, now: float) -> None:
        """Runs in the arbiter, once in each turn."""
        self._put(_TURNED_AT, _MOMENT, now)

    def used(self) -> Iterator[int]:
        """Slots that were ever written to. Reading one of the others would make its page exist."""
        return self._written(_PAGE, _PAGE)

    def counted(self) -> Iterator[int]:
        """The same for slots whose table of counts (`scoreboard/counts.py`) was written to."""
        return self._written(_COUNTS_AT, SLOT_SIZE)

    def _written(self, first: int, size: int) -> Iterator[int]:
        """Slots of whose part something exists. first: where that of slot 0 begins."""
        at, limit, slot = first, first + size * (self.slots + 1), -1
        while at < limit:
            try:
                at = os.lseek(self.fd, at, os.SEEK_DATA)
                end = min(os.lseek(self.fd, at, os.SEEK_HOLE), limit)
            except OSError:  # ENXIO: nothing but holes from here on
                return
            begin = max((at - first) // size, slot + 1)
            for slot in range(begin, -((first - end) // size)):
                yield slot
            at = end

    def counts_at(self, slot: int) -> int:
        """Where a slot's table of counts begins."""
        self._page(slot)
        return _COUNTS_AT + SLOT_SIZE * slot

    @property
    def arbiter_counts_at(self) -> int:
        """Where the arbiter's table of counts begins."""
        return _ARBITER_COUNTS_AT

    def bytes_at(self, at: int, size: int) -> bytes:
        return self._map[at : at + size]

    def put_bytes(self, at: int, raw: bytes) -> None:
        self._map[at : at + len(raw)] = raw

    @property
    def summary(self) -> Area:
        """What the arbiter tells of itself; the arbiter writes it."""
        return Area(self._map, _SUMMARY_AT, _AREA)

    @property
    def facts(self) -> Area:
        """What the steward has measured in Redis; the newest steward writes it."""
        return Area(self._map, _FACTS_AT, _AREA)

    @property
    def paused(self) -> Area:
        """The queues from which nothing may be taken; the newest steward writes it."""
        return Area(self._map, _PAUSED_AT, _AREA)

    def bell(self, name: int) -> Bell | None:
        """The bell with this name; None on a scoreboard of an older version, or a system without
        futexes. It lives as long as the mapping."""
        at = _BELLS_AT + 4 * (name % _BELLS)
        if at + 4 > self._size:
            return None
        try:
            return Bell(ctypes.addressof(ctypes.c_uint32.from_buffer(self._map, at)))
        except OSError:
            return None

    def close(self) -> None:
        if self._map.closed:
            return
        self.words.release()
        self._map.close()
        if self.is_intact:
            os.close(self.fd)


class RecordWriter:
    """Keeps a worker's current record and writes each change of it to the scoreboard."""

    def __init__(self, scoreboard: Scoreboard, slot: int, record: Record) -> None:
        self._scoreboard = scoreboard
        self._page = scoreboard._page(slot)
        self._packed = PackedRecord(record)
        self.slot = slot
        self.record = self._packed.record
        """As it is now: it changes in place."""
        scoreboard.write(slot, record)

    def update(self, **changes: Any) -> None:
        """Change some fields and publish the whole record. Costs no system call."""
        self._packed.change(changes)
        self._scoreboard.write_packed(self._page, self._packed.raw)

    def prepare(self, **changes: Any) -> None:
        """Change some fields, to be published with the next update."""
        self._packed.change(changes)

    @property
    def board(self) -> Scoreboard:
        """The whole scoreboard; its descriptor is one file for all workers, of any generation."""
        return self._scoreboard

    @property
    def stop(self) -> Stop:
        """The arbiter's stop word for this slot."""
        return self._scoreboard.stop_word_at(self._page)

    @property
    def stop_cause(self) -> StopCause:
        """Why the arbiter has given it."""
        return self._scoreboard.stop_cause(self.slot)

    @property
    def order(self) -> tuple[Order, str]:
        """The arbiter's order for an execution in this slot."""
        return self._scoreboard.order(self.slot)

    @property
    def order_reason(self) -> str:
        """What that execution is to fail with."""
        return self._scoreboard.order_reason(self.slot)
