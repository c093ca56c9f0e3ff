"""A worker dies after each of the chunks that it sends for one job, and is recovered.

A chunk is a command or a pipeline, that is, one round trip. Which ones a job takes is not written
down here: a prefix that is longer means that the worker died on its way out, or after it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from rq import Retry
from rq.job import Dependency, Job
from rq.rate_limit import RateLimit
from rq.suspension import WORKERS_SUSPENDED

from harness import jobs
from harness.oracle import assert_one_place_each, places
from harness.waiting import wait_for
from resqued import hookimpl
from resqued.broker.claims import CLAIMS, Claims
from resqued.broker.hand import HANDS, STEP
from resqued.scoreboard import Phase

TAKE = WORKERS_SUSPENDED.encode()
"""A key that only what takes a job names. Chunks are counted from there."""

LIMIT = RateLimit("key", 1)


@dataclass(frozen=True)
class Scenario:
    """One job that a worker dies with, and what hangs on it."""

    longest: int
    """More chunks than it takes; the case with so many says when that is no longer true."""
    body: Callable[..., Any] = jobs.noop
    options: dict[str, Any] = field(default_factory=dict)
    dependents: bool = False
    limited: bool = False
    """Another job waits for this one under the same rate limit."""
    whole: bool = False
    """Count also the chunks that only read, which to Redis are as if they had not come, and
    those with which the worker leaves afterwards."""

    @property
    def leaves_nothing(self) -> bool:
        return self.options.get("result_ttl") == 0


SCENARIOS = {
    "plain": Scenario(14, whole=True),
    "retries": Scenario(4, options={"retry": Retry(2)}),
    "dependents": Scenario(6, dependents=True),
    "no result": Scenario(10, options={"result_ttl": 0}, dependents=True),
    "rate limit": Scenario(7, options={"rate_limit": LIMIT}, limited=True),
    "no result, rate limit": Scenario(
        10, options={"rate_limit": LIMIT, "result_ttl": 0}, limited=True
    ),
    "fails": Scenario(9, jobs.fail, {"rate_limit": LIMIT}, dependents=True, limited=True),
    "fails, retries": Scenario(4, jobs.fail, {"retry": Retry(2)}),
}
LAYOUTS = {"one queue": ("a",), "three": ("a", "b", "c")}


def cases(*names: str) -> list[Any]:
    """Every prefix, with and without the reply to its last chunk.

    Redis cannot tell the two apart, only the worker's record can: so one in each layout.
    """
    found = []
    for name, (layout, queues) in itertools.product(names, LAYOUTS.items()):
        for prefix in range(SCENARIOS[name].longest + 1):
            reply = (prefix % 2 == 0) == (layout == "three")
            text = f"{name}, {layout}, {prefix}, {'' if reply else 'no '}reply"
            found.append(pytest.param(SCENARIOS[name], queues, prefix, reply, id=text))
    return found


class OneJob:
    """The worker leaves when it has done one."""

    @hookimpl
    def should_recycle(self, worker: Any) -> str | None:
        return "one job done" if worker.jobs else None


class Case:
    """The jobs of a scenario, before and after the death of their worker."""

    def __init__(self, scenario, queues, queue, connection, ledger) -> None:
        self.scenario, self.connection, self.ledger = scenario, connection, ledger
        self.queue = queue(queues[-1])
        self.job: Job = self.queue.enqueue(scenario.body, **scenario.options)
        self.others = [self.queue.enqueue(jobs.noop)]
        self.strict: list[Job] = []
        self.released: list[Job] = []
        if scenario.dependents:
            any_end = Dependency([self.job], allow_failure=True)
            self.strict.append(queue(queues[0]).enqueue(jobs.noop, depends_on=self.job))
            self.released.append(queue("elsewhere").enqueue(jobs.noop, depends_on=any_end))
        if scenario.limited:
            self.released.append(self.queue.enqueue(jobs.noop, rate_limit=LIMIT))

    # What Redis and the ledger say.

    @property
    def runs(self) -> int:
        return len(self.ledger.started(self.job.id))

    @property
    def place(self) -> str:
        """`queue`, `wip`, `failed` ...; `over` if the job leaves nothing and is done."""
        if self.scenario.leaves_nothing and not self.connection.exists(self.job.key):
            assert not places(self.connection, [self.job.id])[self.job.id]
            return "over"
        where = assert_one_place_each(self.connection, [self.job.id])[self.job.id]
        kind, _, name = where.partition(":")
        assert name == self.queue.name
        return kind

    def field(self, name: str) -> int:
        return int(self.connection.hget(self.job.key, name) or 0)

    def status(self, job: Job) -> str:
        return (self.connection.hget(job.key, "status") or b"").decode()

    # What must be.

    def assert_recovered(self, before: str, runs: int, retries: int, interrupted: bool) -> None:
        """before: the place of the job when its worker had died; retries: those it had left."""
        place = self.place
        left = self.field("retries_left")
        if runs == 0 or (interrupted and before == "wip"):
            assert place == "queue"
            assert self.queue.job_ids[0] == self.job.id
            assert self.status(self.job) == "queued"
            assert left == retries
            assert self.field("interruptions") == (runs > 0)
            # one that it may have died of, while it read the job: only the third counts
            assert self.field("deaths") <= (not interrupted)
            assert not self.job.results()
        elif before == "wip":
            assert place == ("queue" if retries else "failed")
            assert left == max(0, retries - 1)
            assert self.field("deaths") == 1
        else:
            assert (place, left) == (before, retries), "its outcome was written"
            assert not self.field("deaths")
        if place in ("finished", "over"):
            assert self.ledger.ended(self.job.id)
        self._assert_released(place)
        self.assert_nothing_left()

    def _assert_released(self, place: str) -> None:
        """What waits for the job goes on waiting, or is queued, as the job is over or not."""
        over = place != "queue"
        assert {self.status(job) for job in self.released} <= (
            {"queued"} if over else {"deferred", "rate_limited"}
        )
        strict = "queued" if over and place != "failed" else "deferred"
        assert {self.status(job) for job in self.strict} <= {strict}
        assert_one_place_each(self.connection, [job.id for job in self.released + self.strict])

    def assert_nothing_left(self) -> None:
        """No trace of the worker, but for what RQ keeps of it for a minute."""
        assert not self.connection.smembers("rq:workers")
        assert not self.connection.hgetall(CLAIMS)
        assert not self.connection.hgetall(HANDS)
        patterns = ("rq:execution*", "rq:wip:*", "*:intermediate", "*:executions")
        assert not [key for pattern in patterns for key in self.connection.keys(pattern)]

    def assert_ends_right(self, runs: int, place: str, left: int) -> None:
        """Another worker serves the queues now. Before that: starts of the job, where it was, the
        retries that it had left."""
        fails = place == "failed" or self.scenario.body is jobs.fail
        end = "failed" if fails else "" if self.scenario.leaves_nothing else "finished"
        self._wait(self.job, end)
        for job in [*self.others, *self.released]:
            self._wait(job, "finished")
        for job in self.strict:
            self._wait(job, "deferred" if fails else "finished")
        again = 0
        if place == "queue":
            again = 1 + left if self.scenario.body is jobs.fail else 1
        assert self.runs == runs + again
        others = [job.id for job in [*self.others, *self.released, *self.strict]]
        assert_one_place_each(self.connection, others)
        for job_id in others:
            assert self.ledger.started(job_id) in ([], [job_id])
        wait_for(lambda: not self.connection.exists("rq:rl:key:allowed"), 5, "the slot to be free")

    def _wait(self, job: Job, status: str) -> None:
        wait_for(lambda: self.status(job) == status, 10, f"{job} to be {status or 'gone'}")


@pytest.fixture(params=["auto", "off"])
def die_and_recover(request, crew, proxy, queue, connection, ledger):
    """Run a case up to the recovery, judge that, and have the rest done by another worker."""
    crew.settings["fast_path"] = request.param

    def die_and_recover(scenario, queues, prefix, reply, interrupted=False) -> None:
        Claims(connection, "nobody:0").take([])  # else the first time takes two chunks more
        connection.script_load(STEP)
        case = Case(scenario, queues, queue, connection, ledger)
        crew.url = proxy.url
        proxy.stop_after(prefix, TAKE, reply=reply, reads=scenario.whole)
        hand = crew.start(*queues, wait=False, plugins=[OneJob()])

        def done() -> bool:
            return hand.record.phase is Phase.LEFT if scenario.whole else hand.record.done == 1

        wait_for(lambda: proxy.stopped.is_set() or done(), 10, "its death")
        if prefix == scenario.longest:
            assert done(), f"it takes more than {prefix} chunks now"
        hand.kill()
        proxy.resume()
        before, runs, retries = case.place, case.runs, case.field("retries_left")
        hand.recovered(interrupted=interrupted)
        case.assert_recovered(before, runs, retries, interrupted)
        place, left = case.place, case.field("retries_left")
        crew.start(*queues, "elsewhere", wait=False)
        case.assert_ends_right(runs, place, left)

    return die_and_recover


@pytest.mark.parametrize(("scenario", "queues", "prefix", "reply"), cases(*SCENARIOS))
def test_died_by_itself(die_and_recover, scenario, queues, prefix, reply):
    die_and_recover(scenario, queues, prefix, reply)


@pytest.mark.parametrize(("scenario", "queues", "prefix", "reply"), cases("plain", "retries"))
def test_stopped_by_us(die_and_recover, scenario, queues, prefix, reply):
    die_and_recover(scenario, queues, prefix, reply, interrupted=True)
