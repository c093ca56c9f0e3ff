"""One job at this moment: what Redis has of it, for `resquedctl why`. Only reads."""

from __future__ import annotations

import base64
import contextlib
import json
import pickletools
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from rq.defaults import RQ_KEY_PREFIX
from rq.executions import Execution, ExecutionRegistry
from rq.intermediate_queue import IntermediateQueue
from rq.job import Job
from rq.queue import Queue
from rq.registry import (
    CanceledJobRegistry,
    DeferredJobRegistry,
    FailedJobRegistry,
    FinishedJobRegistry,
    ReadyJobRegistry,
    ScheduledJobRegistry,
    StartedJobRegistry,
)
from rq.results import Result

from resqued import linux
from resqued.broker import story
from resqued.broker.bad_data import text_of
from resqued.broker.owner import CLAIMS, QUEUE, RUNNING, Owner, parse_running, split_claim
from resqued.broker.queue_now import (
    Here,
    ask,
    moment_of,
    names_of,
    number_of,
    read_queue,
    read_worker,
)
from resqued.why.facts import Dependency, Held, JobFacts, PastEvent, PastResult, WorkerFacts
from resqued.why.job import tell_job

_FIELDS: Final = (
    *("status", "origin", "created_at", "enqueued_at", "started_at", "ended_at", "timeout"),
    *("retries_left", "number_of_retries", "interruptions", "deaths", "worker_name"),
    *("dependency_ids", "dependency_id", "allow_dependency_failures", "rate_limit_key"),
    *("rate_limit_concurrency", "data"),
)
_REGISTRIES: Final = {
    "finished": FinishedJobRegistry,
    "failed": FailedJobRegistry,
    "deferred": DeferredJobRegistry,
    "scheduled": ScheduledJobRegistry,
    "canceled": CanceledJobRegistry,
    "ready": ReadyJobRegistry,
}
_DOUBTFUL: Final = ("lost", "started_nowhere", "in_transit", "gone", "lost_worker")
"""States that a job may seem to have while it goes from one to another."""

_AGAIN: Final = 3  # looks at such a job
_PAUSE: Final = 0.1  # seconds between them
_DEEP: Final = 1_000_000  # entries of a queue that are looked through for a job
_HEAD: Final = 300  # bytes of a job's data in which its function is looked for
_LIKE: Final = 500  # jobs of each queue among which ids that are alike are looked for


class JobLook:
    """Looks for jobs. Methods raise redis errors."""

    def __init__(self, connection: Any, here: Here) -> None:
        self._connection = connection
        self._here = here

    def read(self, job_id: str) -> JobFacts:
        """What there is of a job, if anything. Jobs move while they are looked at: what may be due
        to that is looked at again."""
        facts = self._read(job_id)
        for _ in range(_AGAIN):
            if tell_job(facts, time.time()).state not in _DOUBTFUL:
                break
            time.sleep(_PAUSE)
            facts = self._read(job_id)
        return facts

    def _read(self, job_id: str) -> JobFacts:
        key = Job.key_for(job_id)
        kind, fields, ttl, executions, results, events, claims, running, queues = ask(
            self._connection,
            [
                ("TYPE", key),
                ("HMGET", key, *_FIELDS),
                ("PTTL", key),
                ("ZRANGE", ExecutionRegistry.key_template.format(job_id), 0, -1),
                ("XREVRANGE", Result.get_key(job_id), "+", "-", "COUNT", 10),
                ("XRANGE", story.STORIES + job_id, "-", "+"),
                ("HGETALL", CLAIMS),
                ("HGETALL", RUNNING),
                ("SMEMBERS", Queue.redis_queues_keys),
            ],
        )
        facts = JobFacts(job_id, kind=text_of(kind or b"none") or "none")
        if facts.kind == "hash":
            raw = dict(zip(_FIELDS, fields or [None] * len(_FIELDS), strict=True))
            facts = self._of_hash(facts, raw, ttl)
        known = names_of(queues)
        found = self._holders(facts, executions or (), claims or {}, running or {})
        facts = replace(
            facts,
            results=tuple(_results(results or ())),
            events=tuple(_events(events or ())),
            holders=tuple(found),
        )
        facts = _with_retries(self._places(facts, known))
        if facts.kind == "none" and not (facts.holders or facts.places or facts.registries):
            facts = replace(facts, near=tuple(self._alike(job_id, known, running or {})))
        if facts.queue and not facts.holders and facts.kind == "hash":
            facts = replace(facts, at=read_queue(self._connection, facts.queue, self._here))
        return facts

    def _of_hash(self, facts: JobFacts, raw: Mapping[str, bytes | None], ttl: Any) -> JobFacts:
        texts = {name: text_of(value or b"") or "" for name, value in raw.items() if name != "data"}
        moments = {
            name.removesuffix("_at"): moment_of(raw[name]) for name in raw if name.endswith("_at")
        }
        return replace(
            facts,
            status=texts["status"],
            function=_function(raw["data"] or b""),
            queue=texts["origin"],
            **moments,  # type: ignore[arg-type]
            timeout=_number(texts["timeout"]),
            kept=ttl / 1000 if isinstance(ttl, int) and ttl >= 0 else None,
            retries_left=_whole(texts["retries_left"]),
            retries_done=_whole(texts["number_of_retries"]) or 0,
            interruptions=_whole(texts["interruptions"]) or 0,
            deaths=_whole(texts["deaths"]) or 0,
            worker=self._worker(texts["worker_name"]),
            dependencies=tuple(self._dependencies(texts)),
            goes_on=texts["allow_dependency_failures"] == "1",
            rate_limit=texts["rate_limit_key"],
            rate=self._rate(texts),
        )

    def _worker(self, name: str) -> WorkerFacts | None:
        if not name:
            return None
        worker: WorkerFacts = read_worker(self._connection, name, self._here)
        return replace(worker, number=worker.number or number_of(name))

    def _dependencies(self, texts: Mapping[str, str]) -> Iterator[Dependency]:
        if texts["status"] != "deferred":
            return
        try:
            ids = json.loads(texts["dependency_ids"] or "[]")
        except ValueError:
            ids = []
        ids = [each for each in ids if isinstance(each, str)] or [texts["dependency_id"]]
        ids = [each for each in ids if each]
        wanted = [("HMGET", Job.key_for(each), "status", "origin") for each in ids]
        for job_id, answer in zip(ids, ask(self._connection, wanted), strict=True):
            yield Dependency(job_id, *(text_of(raw or b"") or "" for raw in answer or ()))

    def _rate(self, texts: Mapping[str, str]) -> tuple[int, int] | None:
        most = _whole(texts["rate_limit_concurrency"])
        if not texts["rate_limit_key"] or most is None:
            return None
        key = f"{RQ_KEY_PREFIX}:rl:{texts['rate_limit_key']}:allowed"
        (used,) = ask(self._connection, [("ZCARD", key)])
        return used or 0, most

    # Where it is.

    def _holders(
        self, facts: JobFacts, executions: Any, claims: Any, running: Any
    ) -> Iterator[Held]:
        job_id = facts.id
        for field, value in claims.items():
            if split_claim(value)[0] == job_id.encode():
                with contextlib.suppress(ValueError):
                    yield self._held(Owner.parse(text_of(field) or ""), begun=False)
        seen: set[str] = set()
        for field, value in running.items():
            name, _, execution_id = (text_of(field) or "").rpartition(":")
            if name == job_id:
                with contextlib.suppress(ValueError):
                    owner, _ = parse_running(value)
                    seen.add(execution_id)
                    yield self._held(owner, begun=True)
        others = [each for each in map(text_of, executions) if each and each not in seen]
        yield from self._stock_holders(facts, others)

    def _held(self, owner: Owner, *, begun: bool) -> Held:
        worker: WorkerFacts = read_worker(self._connection, owner.name, self._here)
        alive = None
        if owner.machine == linux.machine():
            alive = linux.life(owner.pid, owner.ticks) is not linux.Life.DEAD
        number = worker.number or number_of(owner.name)
        return Held(replace(worker, number=number, stock=False), begun, alive)

    def _stock_holders(self, facts: JobFacts, executions: list[str]) -> Iterator[Held]:
        """Executions that no resqued has begun."""
        wip = StartedJobRegistry.key_template.format(facts.queue)
        for execution_id in executions:
            its = Execution(execution_id, facts.id, self._connection)
            name, score = ask(
                self._connection,
                [("HGET", its.key, "worker_name"), ("ZSCORE", wip, its.composite_key)],
            )
            if name is None and score is None:
                continue
            worker: WorkerFacts = read_worker(
                self._connection, text_of(name or b"") or "?", self._here
            )
            stale = score is not None and float(score) < time.time()
            alive = None if worker.registered else False
            yield Held(replace(worker, stock=True), True, alive, stale)

    def _places(self, facts: JobFacts, known: list[str]) -> JobFacts:
        """In which queues, intermediate lists and registries it is."""
        names = [facts.queue] if facts.queue else known
        places, transit, listed, due, queue = {}, "", [], None, facts.queue
        commands: list[tuple[Any, ...]] = []
        for name in names:
            in_transit = IntermediateQueue.get_intermediate_queue_key(QUEUE + name)
            commands.append(("LPOS", QUEUE + name, facts.id, "COUNT", 0, "MAXLEN", _DEEP))
            commands.append(("LPOS", in_transit, facts.id, "COUNT", 1))
            for registry in _REGISTRIES.values():
                commands.append(("ZSCORE", registry.key_template.format(name), facts.id))
        answers = iter(ask(self._connection, commands))
        for name in names:
            if at := next(answers):
                places[name] = tuple(place + 1 for place in at)
            transit = name if next(answers) else transit
            for word in _REGISTRIES:
                score = next(answers)
                if score is not None:
                    listed.append(word)
                    queue = queue or name
                    due = float(score) if word == "scheduled" else due
        return replace(
            facts, places=places, transit=transit, registries=tuple(listed), due=due, queue=queue
        )

    def _alike(self, job_id: str, known: list[str], running: Any) -> Iterator[str]:
        """At most three ids that begin like this one."""
        found = {text_of(field.rpartition(b":")[0]) for field in running}
        commands: list[tuple[Any, ...]] = [("LRANGE", QUEUE + name, 0, _LIKE) for name in known]
        for registry in (FailedJobRegistry, FinishedJobRegistry):
            commands += [
                ("ZRANGE", registry.key_template.format(name), -_LIKE, -1) for name in known
            ]
        for answer in ask(self._connection, commands):
            found.update(map(text_of, answer or ()))
        start = job_id[: max(6, len(job_id) * 2 // 3)]
        alike = sorted(each for each in found if each and each.startswith(start))
        yield from alike[:3]


# What it has behind it.


def _results(entries: Any) -> Iterator[PastResult]:
    kinds = {str(each.value): each.name.lower() for each in Result.Type}
    for entry_id, raw in entries:
        texts = {text_of(name) or "": text_of(value) or "" for name, value in raw.items()}
        began, ended = (
            _number(texts.get(name, "")) for name in ("execution_started_at", "execution_ended_at")
        )
        yield PastResult(
            kinds.get(texts.get("type", ""), "?"),
            int(bytes(entry_id).partition(b"-")[0]) / 1000,
            _exception(texts.get("exc_string", "")),
            texts.get("worker_name", ""),
            ended - began if began is not None and ended is not None else None,
        )


def _exception(packed: str) -> str:
    if not packed:
        return ""
    try:
        return story.last_line(zlib.decompress(base64.b64decode(packed)).decode(errors="replace"))
    except (ValueError, zlib.error):
        return "?"


def _events(entries: Any) -> Iterator[PastEvent]:
    for at, event in story.read(entries):
        number = event.number or number_of(event.worker)
        worker = WorkerFacts(
            event.worker, host=event.host, number=number, generation=event.generation
        )
        yield PastEvent(at, event.what, event.cause, worker, event.memory, event.left)


def _function(data: bytes) -> str:
    """The function's name, found without unpickling; empty if it cannot be."""
    with contextlib.suppress(Exception):
        head = zlib.decompressobj().decompress(data, _HEAD) if data[:1] == b"\x78" else data
        if head[:1] == b"[":
            return str(json.JSONDecoder().raw_decode(head[1:].decode(errors="replace").strip())[0])
        return next((arg for _, arg, _ in pickletools.genops(head) if isinstance(arg, str)), "")
    return ""


def _with_retries(facts: JobFacts) -> JobFacts:
    """How often it was retried. RQ counts that for jobs that return Retry, and the retries left for
    those that raise; the rest is in the job's story."""
    left = [event.left for event in facts.events if event.what == "retried" and event.left >= 0]
    if not left:
        return facts
    if facts.retries_left is None:
        return replace(facts, retries_left=left[-1])
    return replace(facts, retries_done=max(0, max(left) + 1 - facts.retries_left))


def _whole(text: str) -> int | None:
    return int(text) if text.removeprefix("-").isdecimal() else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
