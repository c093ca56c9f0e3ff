"""What the arbiter here knows for `why`: from its scoreboard, and its last events from its socket.

The scoreboard is read past the arbiter, so that its workers have a story while its loop stands
still. Without its socket there is just less of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from resqued.control.client import Connection, NotReached, TookTooLong
from resqued.control.packets import ControlRequest
from resqued.facts import Facts
from resqued.scoreboard import Record, Scoreboard, Stop
from resqued.scoreboard.runs import expand
from resqued.status import arbiters
from resqued.status.chosen import ChosenArbiter, NoArbiter
from resqued.why.facts import PastExit, SlotFacts

if TYPE_CHECKING:
    from resqued.broker.queue_now import Here

_PATIENCE: Final = 3.0  # seconds for the events
_EXITS: Final = ("worker_exited", "worker_died")


class ArbiterLook:
    """One look at an arbiter. Use it as a context. Raises NoArbiter."""

    def __init__(self, chosen: ChosenArbiter) -> None:
        self._chosen = chosen
        self._board = _open(chosen.pid)
        self.summary = self._board.summary.read()
        self.facts = Facts.from_plain(self._board.facts.read())

    def __enter__(self) -> ArbiterLook:
        return self

    def __exit__(self, *error: object) -> None:
        self._board.close()

    def here(self) -> Here:
        """For what is read in Redis."""
        from resqued.broker.queue_now import Here

        records = [(slot, self._board.read(slot)) for slot in self._board.used()]
        measured = self.facts.queues if self.facts is not None else ()
        served = {name for names in self._slots().values() for name in names}
        return Here(
            workers={each.name: (slot, each.generation) for slot, each in records if each.name},
            per_minute={each.name: each.per_minute for each in measured if each.per_minute},
            queues=tuple(sorted(served - {"*"})),
        )

    def slot(self, number: int) -> SlotFacts:
        """Worker `number`."""
        summary, now = self.summary, time.monotonic()
        record = self._board.read(number) if number <= self._board.slots else Record()
        alive = record.pid > 0 and Path(f"/proc/{record.pid}").exists()
        stop = self._board.stop_word(number) if number <= self._board.slots else Stop.NONE
        told = self._board.stop_cause(number).word or "asked" if stop is not Stop.NONE else ""
        queues = tuple(self._slots().get(number, ()))
        events = list(self._events())
        failures, not_before = summary.get("backing_off", {}).get(str(number), (0, 0.0))
        facts = self.facts
        return SlotFacts(
            number,
            wanted=summary.get("wished", 0),
            alive=alive,
            pid=record.pid,
            phase=record.phase.name.lower(),
            generation=record.generation,
            current=summary.get("generation", 0),
            queues=queues,
            age=now - record.started if record.started else None,
            job=record.job_id if record.phase.holds_job else "",
            function=record.function,
            queue=record.queue,
            job_age=now - record.job_started if record.job_started else None,
            timeout=record.job_timeout or None,
            overdue=max(0.0, now - record.deadline) if record.deadline else 0.0,
            done=record.done,
            failed=record.failed,
            memory=_memory(record.pid) if alive else 0,
            told=told if alive else "",
            now=stop is Stop.NOW,
            backs_off=max(0.0, not_before - now),
            failures=failures,
            mode=str(summary.get("state", "running")),
            redis_error=_no_redis(facts),
            redis_since=now - facts.since if facts is not None and not facts.answers else 0.0,
            suspended=self._board.steward_status().suspended,
            paused=tuple(sorted(set(queues) & set(self._board.paused.read().get("queues", ())))),
            exits=tuple(_exits(events, number)),
        )

    def _slots(self) -> dict[int, list[str]]:
        return expand(self.summary.get("slots", {}))

    def _events(self) -> Iterator[Mapping[str, Any]]:
        """The last events; none if the socket does not answer."""
        if not self._chosen.control:
            return
        try:
            with Connection(self._chosen.control, self._chosen.owner) as connection:
                for answer in connection.ask(ControlRequest("events"), _PATIENCE):
                    yield from answer.facts.get("events", ())
        except (NotReached, TookTooLong):
            return


def _open(pid: int) -> Scoreboard:
    try:
        for fd in arbiters.scoreboards(pid):
            return Scoreboard(os.dup(fd), writable=False)
    except ValueError as error:
        raise NoArbiter(f"pid {pid} runs another resqued: {error}") from None
    except OSError as error:
        raise NoArbiter(f"the arbiter, pid {pid}: {error.strerror}") from None
    raise NoArbiter(f"not running: pid {pid} is no arbiter")


def _no_redis(facts: Facts | None) -> str:
    if facts is None or facts.answers:
        return ""
    return facts.error.rstrip(".") or "not known why"


def _exits(events: list[Mapping[str, Any]], number: int) -> Iterator[PastExit]:
    for event in events:
        if event.get("event") not in _EXITS or event.get("worker") != number:
            continue
        yield PastExit(
            at=float(event.get("time", 0.0)),
            reason=str(event.get("reason") or ""),
            cause=str(event.get("cause") or ""),
            out_of_memory=bool(event.get("out_of_memory")),
            expected=event.get("event") == "worker_exited",
            job=str(event.get("job") or ""),
            seconds=float(event.get("seconds") or 0.0),
        )


def _memory(pid: int) -> int:
    """Bytes resident (proc_pid_statm(5)); 0 if that cannot be read."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, LookupError):
        return 0
