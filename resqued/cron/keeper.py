"""Keeps the periodic jobs of one arbiter: enqueues each tick once, together with other arbiters.

Runs in the duties process. Which tick is done with stands in Redis, by Redis's clock, so that a
death, a reload or a second arbiter neither misses nor doubles one.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, TypeVar

import redis

from resqued import logs
from resqued.broker.bad_data import is_data_error, log_once
from resqued.broker.cron import (
    Announced,
    CronCall,
    CronState,
    CronStore,
    Rival,
    Target,
    Tick,
    Ticked,
    fields_of,
    job_id,
)
from resqued.broker.cron_records import PeriodicJob, SchedulerRecord
from resqued.cron.definition import Definition
from resqued.cron.log_lines import log_done, log_other, log_skipped
from resqued.cron.moments import BEAT, CONTEND, FORGET, HEAR, Moments, RedisClock
from resqued.cron.timetable import Entry, TickDecision
from resqued.logs import LogEvent

_TOGETHER: Final = 100  # jobs in one round trip, for which heartbeats and other clients wait
_AGAIN: Final = 1.0  # seconds until what Redis has refused is tried again
_CUT: Final = 0.05  # seconds until what a lost connection has interrupted is done again
_CUTS: Final = 5  # connections lost in a row, after which Redis is asked whether it answers

T = TypeVar("T")


class CronKeeper:
    """The state of the duty; `step` does what is due.

    loaded: when the definitions were loaded, on the monotonic clock. serializer: of the jobs.
    takeover: whether a job is kept also while an `rq cron` has one of its name. Raises what RQ
    raises for options of a job that cannot be.
    """

    def __init__(
        self,
        connection: redis.Redis,
        arbiter: str,
        definitions: Sequence[Definition],
        *,
        loaded: float,
        serializer: str | None,
        takeover: bool,
    ) -> None:
        self._arbiter = arbiter
        self._store = CronStore(connection, arbiter)
        self._records = SchedulerRecord(connection, arbiter)
        self._loaded = loaded
        self._takeover = takeover
        self._announced = {each.key: _announced(each, serializer) for each in definitions}
        self._entries = {each.key: Entry(each) for each in definitions}
        self._clock = RedisClock()
        self._due = Moments()
        self._changes = b""
        self._heard: float | None = None  # the last heartbeat of the process before; Redis's clock
        self._cuts = 0  # connections lost since the last step that was done
        self._not_before: dict[str, float] = {}  # of jobs whose keys have another type; monotonic
        self._sent: dict[str, tuple[Tick, TickDecision]] = {}  # what has no answer yet

    def step(self) -> float:
        """Do what is due; the Unix time of this machine at which to call again.

        A lost connection is no reason to wait, also if several are lost in a row, while Redis
        answers a PING; nor is a key of resqued's own that has another type. Raises redis errors.
        """
        try:
            due = self._step()
        except redis.ResponseError as error:
            if not is_data_error(error) or not self._set_aside(self._entries):
                raise
            return time.time()
        except redis.ConnectionError as error:
            self._cuts += 1
            if self._cuts >= _CUTS:
                self._store.ping()
                log_once(
                    "cron connections",
                    f"cron: the connection to redis was lost {self._cuts} times in a row ({error}),"
                    " though it answers a PING; trying again",
                    "WARNING",
                )
            return time.time() + _CUT * min(self._cuts, _CUTS)
        self._cuts = 0
        return due

    def _step(self) -> float:
        now = time.monotonic()
        if now >= self._due.beat:
            self._beat(now)
        if now >= self._due.announce:
            self._announce(self._entries)
            self._due.announce = math.inf
            self._due.hear = 0.0  # Redis may have been flushed, RQ's entry too
        elif now >= self._due.contend:
            self._announce([key for key, entry in self._entries.items() if not entry.ours])
        if now >= self._due.hear:
            self._store.hear(self._entries)
            self._records.write(map(self._record, self._entries.values()))
            self._due.hear = now + HEAR
        if now >= self._due.forget:
            self._forget()
            self._due.forget = now + FORGET
        self._enqueue()
        return time.time() + max(0.0, self._next() - time.monotonic())

    def _set_aside(self, keys: Iterable[str]) -> bool:
        """Rename keys that are in the way, and tell Redis again what is here; whether there were
        some."""
        found = self._store.set_aside(keys)
        if found:
            self._due.announce = 0.0
        return found

    def _next(self) -> float:
        """When something is due next, on the monotonic clock."""
        dues = [self._when(key, entry) for key, entry in self._entries.items()]
        return min([self._due.next, *dues])

    def _when(self, key: str, entry: Entry) -> float:
        due = entry.next_due(self._arbiter, self._clock.now) - self._clock.offset + 0.001
        return max(due, self._not_before.get(key, 0.0))

    # What others do.

    def _beat(self, now: float) -> None:
        beat = self._store.beat()
        self._clock.set(beat.clock)
        if self._heard is None:
            self._heard = beat.heard
        self._due.beat = now + BEAT
        if not beat.known or beat.changes != self._changes:
            self._changes = beat.changes
            self._due.announce = 0.0
        self._heed(beat.rivals)

    def _heed(self, rivals: Iterable[Rival]) -> None:
        """Hold back jobs that a living `rq cron` has too."""
        holders = {name: rival for rival in rivals for name in rival.jobs}
        for key, entry in self._entries.items():
            rival = holders.get(entry.definition.name)
            held = rival.name if rival is not None and not self._takeover else ""
            if rival is not None and held != entry.held:
                logs.warning(
                    f"cron={entry.definition.name} is held back: an rq cron has a job of this name"
                    f" (pid {rival.pid} on {rival.host}); stop it, or use --cron-takeover",
                    LogEvent.CRON_NOTICE,
                    cron=entry.definition.name,
                )
            if held != entry.held:
                self._entries[key] = replace(entry, held=held)

    def _announce(self, keys: Iterable[str]) -> None:
        """Tell Redis which jobs are here, and learn what it has of them."""
        for group in _groups(list(keys)):
            age = time.monotonic() - self._loaded
            jobs = [self._announced[key] for key in group]
            states = self._store.announce(jobs, age, self._heard or 0.0)
            for key, state in zip(group, states, strict=True):
                self._clock.set(state.clock)
                self._entries[key] = self._learned(self._entries[key], state)
        all_ours = all(entry.ours for entry in self._entries.values())
        self._due.contend = math.inf if all_ours else time.monotonic() + CONTEND

    def _record(self, entry: Entry) -> PeriodicJob:
        """As RQ's tools read it."""
        definition = entry.definition
        return PeriodicJob(
            name=definition.name,
            function=definition.function,
            queue=definition.queue,
            interval=definition.interval,
            cron=definition.cron,
            last=entry.since if entry.keeper else 0.0,  # else none was enqueued yet
            next=entry.next_due(self._arbiter, self._clock.now),
        )

    def _learned(self, entry: Entry, state: CronState) -> Entry:
        if state.what == "other":
            log_other(entry.definition, state)
        return replace(
            entry,
            ours=state.what == "ours",
            first=state.first,
            last=state.last,
            paused=state.paused,
            keeper=state.keeper,
        )

    def _forget(self) -> None:
        for key in self._store.forget(self._entries, time.monotonic() - self._loaded):
            logs.info(
                f"cron={key} is forgotten: no arbiter has had it for 30 days",
                LogEvent.CRON_NOTICE,
                cron=key,
            )

    # Ticks.

    def _enqueue(self) -> None:
        """All that is due, in slices."""
        now = time.monotonic()
        due = [key for key, entry in self._entries.items() if self._when(key, entry) <= now]
        for group in _groups(due):
            sent = [each for key in group if (each := self._tick(key)) is not None]
            answers = self._store.tick(tick for tick, _ in sent)
            for (tick, decision), ticked in zip(sent, answers, strict=True):
                del self._sent[tick.target.key]
                self._answered(tick, decision, ticked)

    def _tick(self, key: str) -> tuple[Tick, TickDecision] | None:
        """What is due of a job. After a lost reply it is sent again as it was."""
        entry, sent = self._entries[key], self._sent.get(key)
        if sent is not None and sent[0].last == entry.last:
            return sent
        decision = entry.decide(self._clock.now)
        if decision is None:
            return None
        definition = entry.definition
        front = bool(definition.options.get("at_front"))
        tick = Tick(
            target=Target(key, definition.name, definition.queue, front),
            digest=definition.digest,
            last=decision.last,
            becomes=decision.becomes,
            due=decision.due,
            word=uuid.uuid4().hex,
            overlap=definition.overlap,
            missed=decision.missed,
            ids=[job_id(key, str(moment)) for moment in decision.run],
        )
        self._sent[key] = tick, decision
        return tick, decision

    def _answered(self, tick: Tick, decision: TickDecision, ticked: Ticked) -> None:
        key, entry = tick.target.key, self._entries[tick.target.key]
        if ticked.what == "odd":
            if self._set_aside([key]):
                return
            self._not_before[key] = time.monotonic() + _AGAIN
            log_once(
                f"cron {key} {ticked.status}",
                f"cron={entry.definition.name} cannot be enqueued, and is tried again each second:"
                f" {ticked.status}; rename or delete it",
            )
            return
        self._not_before.pop(key, None)
        self._clock.set(ticked.clock)
        entry = entry.moved(ticked.last, paused=ticked.paused, keeper=ticked.keeper)
        self._entries[key] = entry
        match ticked.what:
            case "done":
                log_done(entry.definition, tick, decision, held=bool(entry.held))
            case "overlap":
                log_skipped(entry.definition, ticked.status)
            case "other":
                self._entries[key] = replace(entry, ours=False)
                self._due.announce = 0.0  # it may be in force again at once


def _announced(definition: Definition, serializer: str | None) -> Announced:
    call = CronCall(
        definition.function,
        definition.instance,
        definition.args,
        definition.kwargs,
        definition.options,
    )
    return Announced(
        definition.key,
        definition.digest,
        {**definition.shown(), "at_front": bool(definition.options.get("at_front"))},
        definition.interval is not None,
        definition.enabled,
        fields_of(definition.queue, serializer, call),
    )


def _groups(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for begin in range(0, len(items), _TOGETHER):
        yield items[begin : begin + _TOGETHER]
