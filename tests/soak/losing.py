"""Jobs over a line that loses requests and replies, while workers are ended: each exactly once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

import redis
from rq import Queue, Retry, get_current_job

from harness.command import Resqued
from harness.ledger import write
from harness.oracle import places
from harness.proxy import Proxy
from harness.waiting import is_late, pause

QUEUES = ("default", "low")
BATCH = 500
STILL = 60.0
"""Seconds in which no job ends, after which the rest is lost."""

STRIKES = {"TERM": 4, "KILL": 4, "HUP": 1}
"""What befalls a worker, or the arbiter, and how often beside the others."""


def run(kind: str) -> str:
    """The job. Its line in the ledger says how it ended."""
    job = get_current_job()
    assert job is not None
    attempt = os.urandom(4).hex()
    write(job.id, attempt, "start")
    if kind == "fails" or (kind == "is retried" and job.retries_left == RETRIES):
        write(job.id, attempt, "raised")
        raise ValueError("told to fail")
    write(job.id, attempt, "end")
    return kind


RETRIES = 9
KINDS = {"returns": 8, "fails": 1, "is retried": 1}
_ENDS = {"returns": "finished", "fails": "failed", "is retried": "finished"}


@dataclass
class Told:
    """How it went."""

    jobs: int
    seconds: float = 0.0
    losses: int = 0
    strikes: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    begun_again: int = 0
    """Jobs that have begun more often than they were told to."""
    problems: list[str] = field(default_factory=list)


class Ordeal:
    """One run. arbiter: serves QUEUES through the proxy. connection: past it."""

    def __init__(
        self, arbiter: Resqued, proxy: Proxy, connection: redis.Redis, jobs: int, seed: int
    ) -> None:
        self._arbiter, self._proxy, self._connection = arbiter, proxy, connection
        self._dice = random.Random(seed)
        self._kinds = self._dice.choices(list(KINDS), list(KINDS.values()), k=jobs)
        self.told = Told(jobs)

    def endure(self, loss: float, every: int) -> Told:
        """Enqueue all, strike whenever so many more have ended, until all have, and look at what
        is there. Nothing is raised: see `problems`."""
        began = time.monotonic()
        self._proxy.lose(loss, self._dice.randrange(1 << 30))
        for at in range(0, len(self._kinds), BATCH):
            self._enqueue(at, self._kinds[at : at + BATCH])
        ended, due, since = 0, every, time.monotonic()
        while ended < self.told.jobs and not is_late(since, STILL):
            pause(0.02)
            if (now := self._ended()) != ended:
                ended, since = now, time.monotonic()
            if ended >= due:
                self._strike()
                due = ended + every
        self.told.seconds = time.monotonic() - began
        self._proxy.lose(0)
        self.told.losses = self._proxy.losses
        if self._settle():
            self._judge()
        return self.told

    def _enqueue(self, at: int, kinds: list[str]) -> None:
        made = [
            Queue.prepare_data(
                run,
                (kind,),
                job_id=f"job-{at + place}",
                result_ttl=-1,
                retry=Retry(RETRIES) if kind == "is retried" else None,
            )
            for place, kind in enumerate(kinds)
        ]
        for place, name in enumerate(QUEUES):
            Queue(name, connection=self._connection).enqueue_many(made[place :: len(QUEUES)])

    def _ended(self) -> int:
        with self._connection.pipeline(transaction=False) as pipeline:
            for name in QUEUES:
                pipeline.zcard(f"rq:finished:{name}")
                pipeline.zcard(f"rq:failed:{name}")
            return sum(pipeline.execute())

    def _strike(self) -> None:
        (name,) = self._dice.choices(list(STRIKES), list(STRIKES.values()))
        workers = list(self._arbiter.workers().values())
        if name == "HUP":
            self._arbiter.signal("HUP")
        elif workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._dice.choice(workers).pid, signal.Signals[f"SIG{name}"])
        else:
            return
        self.told.strikes[name] += 1

    def _settle(self) -> bool:
        """Whether nothing is in flight any more."""
        began = time.monotonic()
        while left := self._in_flight():
            if is_late(began, STILL):
                self.told.problems.append(f"in flight for good: {left}")
                return True
            pause(0.05)
        return True

    def _in_flight(self) -> dict[str, int]:
        connection = self._connection
        counts = {f"rq:wip:{name}": connection.zcard(f"rq:wip:{name}") for name in QUEUES}
        for key in ("rq:resqued:running", "rq:resqued:claims"):
            counts[key] = connection.hlen(key)
        held = [hand for hand in connection.hvals("rq:resqued:hands") if b" -" not in hand]
        counts["hands"] = len(held)
        counts["executions"] = len(connection.keys("rq:execution*"))
        return {key: count for key, count in counts.items() if count}

    def _judge(self) -> None:
        told, kinds = self.told, self._kinds
        ids = [f"job-{number}" for number in range(told.jobs)]
        where = places(self._connection, ids)
        begun, came_through = self._counts("start"), self._counts("end")
        with self._connection.pipeline(transaction=False) as pipeline:
            for job_id in ids:
                pipeline.xrange(f"rq:results:{job_id}")
            results = pipeline.execute()
        doubled = 0
        for job_id, kind, outcomes in zip(ids, kinds, results, strict=True):
            told.places.update(place.partition(":")[0] for place in where[job_id])
            ends = [place.partition(":")[0] for place in where[job_id]]
            if ends != [_ENDS[kind]]:
                told.problems.append(f"{job_id}, which {kind}, is in {where[job_id]}")
            last = [fields for _, fields in outcomes if fields[b"type"] != b"3"]
            if len(last) != 1:
                told.problems.append(f"{job_id}, which {kind}, has {len(last)} outcomes")
            doubled += came_through[job_id] > 1
            told.begun_again += begun[job_id] > (2 if kind == "is retried" else 1)
        # Whoever is ended between a job's last line and its outcome has it run again, as RQ does.
        if told.begun_again > told.strikes["KILL"]:
            told.problems.append(
                f"{told.begun_again} jobs have begun again, {doubled} of them after they had come"
                f" to their end, and only {told.strikes['KILL']} workers were killed"
            )

    def _counts(self, word: str) -> Counter[str]:
        entries = self._arbiter.ledger.entries()
        return Counter(entry.job_id for entry in entries if entry.word == word)
