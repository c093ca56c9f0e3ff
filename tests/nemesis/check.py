"""After the dust has settled: where each job is, and what is left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime

import redis
from rq.job import Job

from harness.oracle import places
from nemesis.history import Attempt, repeats, unexcused
from nemesis.load import QUEUES, RETRIES, STOCK, Order
from nemesis.striking import Strike

_UNDER_WAY = {"taken", "claimed", "wip", "ready"}

_OURS = ("Work-horse terminated unexpectedly", "Interrupted ")
"""How results begin that a fault is the cause of."""


@dataclass
class Verdict:
    """Ids, by what is wrong with them, each with what there is to say."""

    nowhere: dict[str, str] = field(default_factory=dict)
    """Lost for good: in no queue and no registry, and nobody has it."""
    stuck: dict[str, str] = field(default_factory=dict)
    """Still taken, started or about to be enqueued, and nobody there to go on."""
    waiting: dict[str, str] = field(default_factory=dict)
    """Still in a queue: not lost, but not done in time."""
    wrong: dict[str, str] = field(default_factory=dict)
    """In two places, finished without having run, failed without a reason, and the like."""
    overlaps: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    """Run again although the attempt before did not fail."""
    twice: list[str] = field(default_factory=list)
    """Those of them whose body came through more than once."""
    unexcused: dict[str, str] = field(default_factory=dict)
    """Those of them that no fault had interrupted."""
    lost_by_stock: list[str] = field(default_factory=list)
    """Of the queue that stock workers serve too: lost, by whomever."""
    failed: list[str] = field(default_factory=list)
    """Failed and not told to."""
    finished: int = 0
    ended_at: dict[str, float] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        return len(self.nowhere) + len(self.stuck)

    def problems(self) -> list[str]:
        """All that may not be, a line each."""
        named = {
            "lost": self.nowhere,
            "stuck": self.stuck,
            "waiting": self.waiting,
            "wrong": self.wrong,
            "run again without a reason": self.unexcused,
            "two attempts at once": dict.fromkeys(self.overlaps, ""),
        }
        return [
            f"{what}: {job_id} {detail}".rstrip()
            for what, found in named.items()
            for job_id, detail in sorted(found.items())
        ]


def has_drained(connection: redis.Redis, queues: Sequence[str] = QUEUES) -> bool:
    """No queue holds a job."""
    return not any(connection.llen(f"rq:queue:{queue}") for queue in queues)


def has_settled(
    connection: redis.Redis, orders: Sequence[Order], queues: Sequence[str] = QUEUES
) -> bool:
    """All jobs that keep their results are done, and none is taken, running or about to be
    enqueued.

    Stock RQ has a job nowhere while it goes from a queue to a worker, hence the count.
    """
    count = sum(not order.expires for order in orders if order.queue in queues)
    with connection.pipeline() as pipeline:
        for queue in queues:
            for kind in ("finished", "failed", "deferred"):
                pipeline.zcard(f"rq:{kind}:{queue}")
        done = sum(pipeline.execute())
        for queue in queues:
            pipeline.llen(f"rq:queue:{queue}:intermediate")
            pipeline.zcard(f"rq:wip:{queue}")
            pipeline.zcard(f"rq:ready:{queue}")
        if done < count or any(pipeline.execute()):
            return False
    return not any(_is_due(connection, order) for order in orders if order.parents)


def _is_due(connection: redis.Redis, order: Order) -> bool:
    """Whether a job waits for parents of which none is in its way any more: whoever has ended the
    last of them is about to release it."""
    with connection.pipeline(transaction=False) as pipeline:
        for job_id in (order.job_id, *order.parents):
            pipeline.hget(Job.key_for(job_id), "status")
        own, *parents = pipeline.execute()
    waits = {b"deferred"} if order.patient else {b"deferred", b"failed"}
    return own == b"deferred" and not waits & set(parents)


def leftovers(
    connection: redis.Redis, living: set[int], spare: int = 0, theirs: Set[str] | None = None
) -> list[str]:
    """Keys that only a job in hand has, and workers in `rq:workers` that are not the living.

    spare: how many dead ones there may be; RQ drops them when their time is over. theirs: ids of
    jobs that stock workers may have left, if there are such workers; None if not.
    """
    problems = []
    matches = ["rq:resqued:*claims*", "rq:execution:*", "rq:executions:*", "rq:wip:*"]
    if theirs is None:
        matches.append("rq:worker:*:executions")
    for match in matches:
        for key in map(bytes.decode, connection.scan_iter(match, count=1000)):
            if not (theirs and (key == f"rq:wip:{STOCK}" or theirs & set(key.split(":")))):
                problems.append(f"left: {key}")
    names = connection.smembers("rq:workers")
    if theirs is not None:
        names = {name for name in names if b"." in name}  # the names of RQ's workers have no dot
    registered = {key: connection.hget(key, "pid") for key in names}
    dead = [key for key, pid in registered.items() if pid is None or int(pid) not in living]
    if len(dead) > spare:
        problems += [f"registered and not living: {key.decode()}" for key in dead]
    missing = living - {int(pid) for pid in registered.values() if pid is not None}
    problems += [f"living and not registered: pid={pid}" for pid in sorted(missing)]
    return problems


def judge(
    connection: redis.Redis,
    orders: Sequence[Order],
    history: Mapping[str, Sequence[Attempt]],
    strikes: Sequence[Strike],
    policy: str,
    called: Set[str] = frozenset(),
) -> Verdict:
    """orders: those that Redis has taken. policy: of resqued, when a worker dies. called: the ids
    of jobs of which a callback was."""
    verdict = Verdict()
    where = places(connection, [order.job_id for order in orders])
    for order in orders:
        if order.repeats:
            where[order.job_id] = _of_the_last_run(where[order.job_id])
    kinds = {job_id: _kinds(found).pop() for job_id, found in where.items() if len(found) == 1}
    for order in orders:
        job_id, found = order.job_id, where[order.job_id]
        tries = history.get(job_id, ())
        _judge_attempts(order, tries, strikes, verdict)
        if not found and order.expires and any(each.ended == "end" for each in tries):
            verdict.finished += 1
            kinds[job_id] = "finished"
        elif order.queue == STOCK and (not found or _UNDER_WAY & _kinds(found)):
            verdict.lost_by_stock.append(job_id)  # also if it is done, but is still held as well
        elif not found:
            verdict.nowhere[job_id] = _tell(connection, job_id, tries)
        elif len(found) > 1:
            verdict.wrong[job_id] = f"is in {found}"
        elif kinds[job_id] == "queue":
            verdict.waiting[job_id] = f"in {found[0]}; {_tell(connection, job_id, tries)}"
        elif kinds[job_id] in _UNDER_WAY:
            verdict.stuck[job_id] = f"in {found[0]}; {_tell(connection, job_id, tries)}"
        elif reason := _misplaced(connection, order, kinds, tries, policy, verdict):
            if order.queue == STOCK and _was_run_by_stock(connection, job_id):
                verdict.lost_by_stock.append(job_id)  # a lost reply makes RQ's workers fail a job
                continue
            verdict.wrong[job_id] = f"{reason}; {_tell(connection, job_id, tries)}"
        elif order.callbacks and _calls_back(kinds[job_id], tries) and job_id not in called:
            verdict.wrong[job_id] = f"{kinds[job_id]}, its callback was not called; {tries}"
    return verdict


def _was_run_by_stock(connection: redis.Redis, job_id: str) -> bool:
    """The names of RQ's workers have no dot."""
    name = connection.hget(Job.key_for(job_id), "worker_name")
    return bool(name) and b"." not in name


def _kinds(found: Sequence[str]) -> set[str]:
    return {place.partition(":")[0] for place in found}


def _of_the_last_run(found: list[str]) -> list[str]:
    """RQ leaves a job that is repeated among the finished, wherever its next run ends."""
    later = [place for place in found if not place.startswith("finished:")]
    return later or found


def _calls_back(place: str, tries: Sequence[Attempt]) -> bool:
    """Whether a job that is there has surely called one of its callbacks."""
    last = tries[-1].ended if tries else ""
    return place == "finished" or (place == "failed" and last == "raised")


def _judge_attempts(
    order: Order, tries: Sequence[Attempt], strikes: Sequence[Strike], verdict: Verdict
) -> None:
    job_id = order.job_id
    if order.queue == STOCK:
        return  # a worker of RQ's may have run it, and left its horse running
    if any(each.overlaps for each in tries):
        verdict.overlaps.append(job_id)
    if len(repeats(tries)) > order.repeats:
        verdict.again.append(job_id)
    if sum(each.ended == "end" for each in tries) > 1 + order.repeats:
        verdict.twice.append(job_id)
    if unexcused(tries, strikes, order.repeats):
        verdict.unexcused[job_id] = str(tries)


def _misplaced(
    connection: redis.Redis,
    order: Order,
    kinds: Mapping[str, str],
    tries: Sequence[Attempt],
    policy: str,
    verdict: Verdict,
) -> str:
    """Why a job may not be where it is and at rest; empty if it may."""
    place = kinds[order.job_id]
    status, ended = connection.hmget(Job.key_for(order.job_id), "status", "ended_at")
    if ended:
        moment = ended.decode().removesuffix("Z")
        verdict.ended_at[order.job_id] = datetime.fromisoformat(f"{moment}+00:00").timestamp()
    if status is None or status.decode() != place:
        return f"in {place} with status {status!r}"
    if place == "deferred":
        parents = [kinds.get(parent, "nowhere") for parent in order.parents]
        wanted = {"deferred"} if order.patient else {"deferred", "failed"}
        return "" if wanted & set(parents) else f"deferred, its parents are {parents}"
    if place == "finished":
        verdict.finished += 1
        through = [each for each in tries if each.ended == "end"]
        if order.fails or not through:
            return "finished without coming through"
        missing = 1 + order.repeats - len(through)
        return f"finished, but {missing} repeats are missing" if missing > 0 else ""
    if place != "failed":
        return f"in {place}"
    if order.fails:
        raised = sum(each.ended == "raised" for each in tries)
        early = policy == "requeue" and raised <= RETRIES
        return f"failed after {raised} of {RETRIES + 1} attempts" if early else ""
    verdict.failed.append(order.job_id)
    reason = _reason(connection, order.job_id)
    fair = policy != "requeue" and reason.startswith(_OURS)
    return "" if fair else f"failed: {reason}"


def _reason(connection: redis.Redis, job_id: str) -> str:
    result = Job(id=job_id, connection=connection).latest_result()
    return str(result.exc_string if result else "no result").strip()


def _tell(connection: redis.Redis, job_id: str, tries: Sequence[Attempt]) -> str:
    fields = connection.hgetall(Job.key_for(job_id))
    kept = {name.decode(): fields[name].decode() for name in fields if name in _TOLD}
    return f"{kept} {list(tries)}"


_TOLD = (b"status", b"worker_name", b"started_at", b"ended_at", b"retries_left", b"deaths")
