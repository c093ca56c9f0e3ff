"""What was enqueued, compared with what should have been. The judgements are pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

import redis
from rq.utils import utcparse

from nemesis.schedule import periodic
from nemesis.schedule.plan import QUEUES, STOCK, Order
from resqued.broker.cron import job_id
from resqued.broker.cron_keys import state_key
from resqued.broker.schedule import registry_key

_MILLISECONDS = 1000 * periodic.EVERY  # between two ticks


@dataclass
class Tally:
    """One kind of thing. missing, double, wrong: what may not be, each with what there is to
    say."""

    expected: int = 0
    enqueued: int = 0
    missing: list[str] = field(default_factory=list)
    double: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.expected += other.expected
        self.enqueued += other.enqueued
        self.missing += other.missing
        self.double += other.double
        self.wrong += other.wrong

    def problems(self, what: str) -> list[str]:
        named = {"missing": self.missing, "double": self.double, "wrong": self.wrong}
        return [f"{what} {how}: {each}" for how, found in named.items() for each in found]


@dataclass(frozen=True)
class Periodic:
    """What Redis has of a periodic job at the end, and in milliseconds the tick that is to be its
    first. ticks: those in the queue, in milliseconds. last: the last that is done with."""

    name: str
    first: int
    last: int
    ticks: Sequence[int]
    counted: int
    missed: int


def judge_ticks(job: Periodic) -> Tally:
    """Each tick from the first to the last is there once."""
    wanted, found = range(job.first, job.last + 1, _MILLISECONDS), Counter(job.ticks)
    tally = Tally(len(wanted), len(job.ticks))
    tally.missing = [f"{job.name} {tick}" for tick in wanted if tick not in found]
    tally.double = [f"{job.name} {tick}" for tick, count in found.items() if count > 1]
    tally.wrong = [f"{job.name} {tick}: no tick of it" for tick in found if tick not in wanted]
    if job.counted > len(found):  # an id that is there already is not enqueued
        tally.double.append(f"{job.name}: {job.counted} counted, and {len(found)} there")
    elif job.counted < len(found):
        tally.wrong.append(f"{job.name}: {job.counted} counted, and {len(found)} there")
    if job.missed:
        tally.wrong.append(f"{job.name}: {job.missed} given up as missed")
    return tally


def judge_scheduled(
    orders: Iterable[Order], cancelled: Set[str], enqueued: Sequence[str], waiting: Set[str]
) -> Tally:
    """Each scheduled job that was not cancelled was enqueued once, and no other.

    enqueued: ids, as often as they were. waiting: ids that are still scheduled. wrong: those that
    were cancelled and came.
    """
    ids = {order.job_id for order in orders}
    found = Counter(enqueued)
    tally = Tally(len(ids - cancelled), sum(found[each] for each in ids - cancelled))
    for each in sorted(ids - cancelled - found.keys()):
        tally.missing.append(f"{each} {'still scheduled' if each in waiting else 'nowhere'}")
    tally.double = sorted(each for each, count in found.items() if count > 1 or each in waiting)
    tally.wrong = sorted(cancelled & found.keys()) + sorted(found.keys() - ids)
    return tally


# Reading Redis.


def first_ticks(connection: redis.Redis) -> dict[str, int] | None:
    """By name, in milliseconds; None: there is not yet each periodic job.

    Of an expression it is the second after the state was made, which is the last tick that is done
    with until one was enqueued.
    """
    states = {name: connection.hgetall(state_key(name)) for name in periodic.NAMES}
    if not all(states.values()):
        return None
    found = ticks_of(connection)
    first = {}
    for name, state in states.items():
        if b"first" in state:
            first[name] = _milliseconds(state[b"first"])
        elif b"enqueued" in state:
            first[name] = min(found[name])
        else:
            first[name] = 1000 * (int(float(state[b"last"])) + 1)
    return first


def last_ticks(connection: redis.Redis) -> list[float]:
    """The last tick of each periodic job that is done with, in seconds."""
    return [float(connection.hget(state_key(name), "last") or 0) for name in periodic.NAMES]


def ticks_of(connection: redis.Redis) -> dict[str, list[int]]:
    """Those in the queue, by name."""
    names = {job_id(name, ""): name for name in periodic.NAMES}
    found: dict[str, list[int]] = {name: [] for name in periodic.NAMES}
    for each in _ids(connection, periodic.QUEUE):
        head, _, tick = each.rpartition("-")
        found[names[f"{head}-"]].append(int(tick))
    return found


def read_ticks(connection: redis.Redis, first: dict[str, int]) -> list[Periodic]:
    """All periodic jobs, once nobody enqueues any more."""
    ticks = ticks_of(connection)
    jobs = []
    for name in periodic.NAMES:
        state = connection.hgetall(state_key(name))
        enqueued, missed = int(state.get(b"enqueued", 0)), int(state.get(b"missed", 0))
        last = _milliseconds(state[b"last"])
        jobs.append(Periodic(name, first[name], last, ticks[name], enqueued, missed))
    return jobs


def enqueued(connection: redis.Redis) -> list[str]:
    """Ids of scheduled jobs in the queues that nobody serves."""
    return [each for queue in QUEUES for each in _ids(connection, queue)]


def waiting(connection: redis.Redis) -> set[str]:
    """Ids of jobs that are scheduled still."""
    keys = [registry_key(queue) for queue in (*QUEUES, STOCK)]
    return {each.decode() for key in keys for each in connection.zrange(key, 0, -1)}


def tick_dues(connection: redis.Redis) -> dict[str, float]:
    """When each tick in the queue was due, in Unix seconds, by the id of its job."""
    ids = _ids(connection, periodic.QUEUE)
    return {each: int(each.rpartition("-")[2]) / 1000 for each in ids}


def lateness(connection: redis.Redis, dues: Mapping[str, float]) -> list[float]:
    """Seconds from the due time of each job to when it was enqueued. dues: in Unix seconds."""
    with connection.pipeline(transaction=False) as pipeline:
        for each in dues:
            pipeline.hget(f"rq:job:{each}", "enqueued_at")
        told = pipeline.execute()
    pairs = zip(told, dues.values(), strict=True)
    return [utcparse(text.decode()).timestamp() - due for text, due in pairs if text]


def states(connection: redis.Redis, ids: Iterable[str], wanted: str) -> list[str]:
    """Those whose record does not have this status."""
    ids = list(ids)
    with connection.pipeline(transaction=False) as pipeline:
        for each in ids:
            pipeline.hget(f"rq:job:{each}", "status")
        found = [status.decode() if status else "no record" for status in pipeline.execute()]
    return [
        f"{each}: {status}" for each, status in zip(ids, found, strict=True) if status != wanted
    ]


def _ids(connection: redis.Redis, queue: str) -> list[str]:
    return [each.decode() for each in connection.lrange(f"rq:queue:{queue}", 0, -1)]


def _milliseconds(text: bytes) -> int:
    return round(float(text) * 1000)
