"""What is to be seen of an arbiter from outside, without asking it: its scoreboard, and /proc.

So it is there even if the arbiter's loop stands still. Runs in a command of its own.
"""

from __future__ import annotations

import errno
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from resqued.facts import Facts
from resqued.scoreboard import TRIAL, Phase, Record, Scoreboard, Seen
from resqued.scoreboard.counts import totals
from resqued.scoreboard.runs import expand
from resqued.status import arbiters
from resqued.status.chosen import NoArbiter, another_users
from resqued.status.process import exists, memory_of, process_state, threads_of

_NO_QUEUES: Final[list[str]] = []

STILL: Final = 5.0
"""Seconds without a turn after which the arbiter's loop is said to stand still."""

_MANY: Final = 100
"""Beyond so many workers their shares of memory are not read: the kernel takes 2 ms for each."""

_SAMPLE: Final = 6
"""Workers whose shares of memory stand for all of them, where each is not shown."""

_STATES: Final = {
    Phase.EMPTY: "starting",
    Phase.BOOTING: "booting",
    Phase.CONNECTING: "connecting",
    Phase.IDLE: "idle",
    Phase.LEAVING: "leaving",
    Phase.LEFT: "leaving",
}


@dataclass(frozen=True)
class WorkerLine:
    """One worker, as it is shown. Seconds and bytes; None where there is no value."""

    number: int
    name: str
    pid: int | None
    generation: int
    queues: list[str]
    state: str
    phase: str
    job_id: str | None
    function: str | None
    queue: str | None
    job_age: float | None
    age: float | None
    done: int
    failed: int
    threads: int | None  # that it has now, those of jobs and libraries included
    memory: int | None  # resident, what it shares with the others included
    own_memory: int | None  # its proportional share of it: these add up; None of many workers
    timeout: float | None = None  # that the job in hand may take; None without a limit
    id_is_cut: bool = False  # the record has no room for more than 255 bytes of it
    horse: int | None = None  # pid of the process that runs the job, where that is another


@dataclass(frozen=True)
class QueueLine:
    """One queue, as it is shown. None where a value is not known."""

    name: str
    waiting: int | None
    oldest: float | None  # seconds
    workers: int  # of this arbiter that serve it
    busy: int
    served: int | None  # by workers of any host
    started: int | None
    scheduled: int | None
    failed: int | None
    per_minute: float | None
    paused: bool
    unserved: bool
    limit: int | None = None  # of jobs that run at once, on all hosts


@dataclass(frozen=True)
class ArbiterStatus:
    """What there is to be shown. still: seconds for which the loop has not turned, if it stands
    still. memory: bytes of all workers together, is_estimate: by a sample of them."""

    pid: int
    process: str  # running, stopped, traced, dead, waiting (for a disk), gone
    still: float | None
    summary: dict[str, Any]
    workers: list[WorkerLine]
    queues: list[QueueLine]
    facts: Facts | None
    done: int
    failed: int
    memory: int | None
    is_estimate: bool

    def in_state(self, *states: str) -> list[WorkerLine]:
        return [line for line in self.workers if line.state in states]

    @property
    def count(self) -> str:
        """`8 (+2)`: the configured number, and the difference made by signals and verbs."""
        difference = self.summary.get("difference", 0)
        configured = str(self.summary.get("configured", "?"))
        return configured + (f" ({difference:+d})" if difference else "")


class StatusReader:
    """The scoreboard of an arbiter, to be read again and again. Raises NoArbiter."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._board = _open(pid)
        self._seen: dict[int, Seen] = {}
        self._idle: dict[int, tuple[int, WorkerLine]] = {}  # with the sequence of its record
        self._jobs = (0, 0)
        self._written: dict[str, list[str]] = {}
        self._slots: dict[int, list[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._board.close()

    def read(
        self, *, details: bool = False, memory: bool = True, counts: bool = True
    ) -> ArbiterStatus:
        """As it is now. details: threads and memory of each worker, which the kernel is asked.
        memory: that of all of them together. counts: jobs done and failed, else as read last."""
        board, now = self._board, time.monotonic()
        summary = {"pid": self.pid, **board.summary.read(), "duties": board.duties or None}
        slots = self._queues_of(summary.get("slots", {}))
        process, turned = process_state(self.pid), board.turned
        still = now - turned if turned and now - turned > STILL and process != "gone" else None
        workers = self._workers(slots, summary.get("wished", 0), now, details=details)
        facts = Facts.from_plain(board.facts.read())
        if counts:
            sums = totals(board).values()
            ended, failed = sum(each.ended for each in sums), sum(each.failed for each in sums)
            self._jobs = (ended, failed)
        size, is_estimate = _memory_of_all(workers) if memory else (None, False)
        return ArbiterStatus(
            pid=self.pid,
            process=process,
            still=still,
            summary=summary,
            workers=workers,
            queues=_queues(facts, workers, board.paused.read(), summary),
            facts=facts,
            done=self._jobs[0],
            failed=self._jobs[1],
            memory=size,
            is_estimate=is_estimate,
        )

    def _queues_of(self, written: dict[str, list[str]]) -> dict[int, list[str]]:
        """The queues by slot: the same lists as before, as long as nothing changes."""
        if written != self._written:
            self._written, self._slots = written, expand(written)
        return self._slots

    def record(self, slot: int) -> Record:
        """The record of a slot as it is now. Raises ValueError if there is no such slot."""
        return self._board.read(slot)

    def _workers(
        self, slots: dict[int, list[str]], wished: int, now: float, *, details: bool
    ) -> list[WorkerLine]:
        used = list(self._board.used())
        self._seen = {slot: self._board.read_again(slot, self._seen.get(slot)) for slot in used}
        shares = details and len(used) <= _MANY
        if details:
            self._idle.clear()
        living = [
            self._line(slot, seen, slots.get(slot, _NO_QUEUES), now, details=details, shares=shares)
            for slot, seen in self._seen.items()
            if seen[1].pid > 0 and exists(seen[1].pid)
        ]
        shown = {line.number for line in living}
        wanted = slots or {slot: [] for slot in range(1, wished + 1)}
        used_slots = set(used)
        for slot in wanted.keys() - shown:  # a page that was never written is not to be read
            record = self._seen[slot][1] if slot in used_slots else Record()
            living.append(worker_line(slot, record, wanted[slot], now, is_down=True))
        return sorted(living, key=lambda line: line.number)

    def _line(
        self,
        slot: int,
        seen: Seen,
        queues: list[str],
        now: float,
        *,
        details: bool,
        shares: bool,
    ) -> WorkerLine:
        """That of an idle worker is made again only when its record has changed."""
        sequence, record = seen
        kept = self._idle.get(slot)
        if kept is not None and kept[0] == sequence and kept[1].queues is queues:
            return kept[1]
        line = worker_line(slot, record, queues, now, details=details, shares=shares)
        if line.state == "idle":
            self._idle[slot] = sequence, line
        return line


def _open(pid: int) -> Scoreboard:
    """The arbiter's memfd, which its own user may open, and root. Raises NoArbiter."""
    try:
        for fd in arbiters.scoreboards(pid):
            return Scoreboard(os.dup(fd), writable=False)
    except ValueError as error:
        raise NoArbiter(f"pid {pid} runs another resqued: {error}") from None
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise another_users(pid) from None
    raise NoArbiter(f"not running: pid {pid} is no arbiter")


def worker_line(
    slot: int,
    record: Record,
    queues: list[str],
    now: float,
    *,
    is_down: bool = False,
    details: bool = False,
    shares: bool = False,
) -> WorkerLine:
    """A worker by its record. is_down: its process is not there."""
    there, busy = not is_down, not is_down and record.phase.holds_job
    memory, own = memory_of(record.pid, shares=shares) if there and details else (None, None)
    return WorkerLine(
        number=slot,
        name=record.name,
        pid=record.pid if there else None,
        generation=record.generation,
        queues=queues,
        state=_STATES.get(record.phase, "busy") if there else "down",
        phase=record.phase.name.lower() if there else "empty",
        job_id=record.job_id if busy else None,
        function=record.function if busy else None,
        queue=record.queue if busy else None,
        job_age=now - record.job_started if busy and record.job_started else None,
        age=now - record.started if there and record.started else None,
        done=record.done,
        failed=record.failed,
        threads=threads_of(record.pid) if there and details else None,
        memory=memory,
        own_memory=own,
        timeout=record.job_timeout if busy and record.job_timeout > 0 else None,
        id_is_cut=busy and bool(record.overflow),
        horse=record.horse or None if busy else None,
    )


def _queues(
    facts: Facts | None,
    workers: Sequence[WorkerLine],
    paused: Mapping[str, Any],
    summary: Mapping[str, Any],
) -> list[QueueLine]:
    """Those that were measured, and those that workers here serve."""
    serving: Counter[str] = Counter()
    busy = Counter(worker.queue for worker in workers if worker.queue)
    lists = {id(worker.queues): worker.queues for worker in workers}  # most workers share one
    sharing = Counter(id(worker.queues) for worker in workers if worker.number != TRIAL)
    for which, count in sharing.items():
        serving.update(dict.fromkeys(lists[which], count))
    everything = serving.pop("*", 0)
    measured = {each.name: each for each in facts.queues} if facts is not None else {}
    held, limits = set(paused.get("queues", ())), summary.get("limits", {})
    lines = []
    for name in sorted(measured.keys() | serving.keys()):
        each = measured.get(name)
        lines.append(
            QueueLine(
                name=name,
                waiting=each.waiting if each else None,
                oldest=each.oldest if each else None,
                workers=serving.get(name, everything),
                busy=busy.get(name, 0),
                served=each.served if each else None,
                started=each.started if each else None,
                scheduled=each.scheduled if each else None,
                failed=each.failed if each else None,
                per_minute=each.per_minute if each else None,
                paused=name in held,
                unserved=each.unserved if each else False,
                limit=limits.get(name),
            )
        )
    return lines


def _memory_of_all(workers: Sequence[WorkerLine]) -> tuple[int | None, bool]:
    """Bytes, and whether that is an estimate by some of them."""
    living = [line for line in workers if line.pid is not None]
    if living and all(line.own_memory is not None for line in living):
        return sum(line.own_memory or 0 for line in living), False
    sample = living[:: max(1, len(living) // _SAMPLE)][:_SAMPLE]
    shares = [memory_of(line.pid, shares=True)[1] for line in sample if line.pid is not None]
    known = [share for share in shares if share is not None]
    if not known:
        return None, False
    return sum(known) * len(living) // len(known), len(known) < len(living)
