"""`arbiter.queues`, `arbiter.counts` and `arbiter.redis`, as a plugin reads them in the arbiter."""

from __future__ import annotations

import time

import pytest

from harness import jobs
from harness.remote import Remote
from harness.waiting import wait_for
from resqued.arbiter.queue_facts import FactsReader
from resqued.config import Config
from resqued.core.state import WorkerHandle
from resqued.facts import Facts, QueueMeasure
from resqued.scoreboard import Phase, Record, Scoreboard
from resqued.shares import QueueShare

CONFIG = Config(queues=(QueueShare("a", limit=5), QueueShare("*")))


@pytest.fixture
def board():
    board = Scoreboard.create()
    yield board
    board.close()


@pytest.fixture
def monotonic():
    return time.monotonic()


def make_facts(measured, *queues, **changes):
    fields = {
        "measured": measured,
        "answers": True,
        "since": 0.0,
        "error": "",
        "round_trip": 0.001,
        "suspended": False,
        "scheduler": None,
        "queues": tuple(QueueMeasure(name, 2, 3.5, 1, None, 0, 0) for name in queues),
        "others": 0,
        "others_waiting": 0,
    }
    return Facts(**{**fields, **changes})


def worker(slot, queues, queue=""):
    record = Record(phase=Phase.RUNNING if queue else Phase.IDLE, queue=queue)
    return WorkerHandle(slot, slot, f"w{slot}", 1, queues, 0.0, pid=slot, seen=record)


def test_facts_survive_the_scoreboard(board, monotonic):
    facts = make_facts(monotonic, "a", "b", others=3)
    board.facts.write(facts.as_plain())
    assert Facts.from_plain(board.facts.read()) == facts


@pytest.mark.parametrize("plain", [{}, {"queues": 3}, {"measured": 1, "queues": [[1, 2]]}])
def test_what_is_not_whole_is_nothing(plain):
    assert Facts.from_plain(plain) is None


def test_workers_are_those_of_this_arbiter_and_star_serves_what_is_not_named(board, monotonic):
    board.facts.write(make_facts(monotonic, "a", "b").as_plain())
    board.paused.write({"queues": ["b"]})
    workers = [worker(1, ("a", "*"), "b"), worker(2, ("a",), "a"), worker(3, ("*",))]
    queues = FactsReader(board).queues(workers, CONFIG)
    assert {name: (facts.workers, facts.busy) for name, facts in queues.items()} == {
        "a": (2, 1),
        "b": (2, 1),
    }
    assert (queues["a"].paused, queues["b"].paused) == (False, True)
    assert (queues["a"].waiting, queues["a"].oldest) == (2, 3.5)
    assert (queues["a"].limit, queues["b"].limit) == (5, None)


def test_what_does_not_fit_is_one_entry(board, monotonic):
    facts = make_facts(monotonic, "a", others=7, others_waiting=40)
    board.facts.write(facts.as_plain())
    assert FactsReader(board).queues([], CONFIG)["other (7)"].waiting == 40


def test_nothing_is_known_before_the_first_look_and_when_no_steward_looks(board, monotonic):
    reader = FactsReader(board)
    assert reader.redis() is None and reader.queues([], CONFIG) == {}
    board.facts.write(make_facts(monotonic, "a").as_plain())
    assert reader.redis().answers
    board.facts.write(make_facts(monotonic - 1000, "a").as_plain())
    assert reader.redis() is None


# The real command.


def test_a_plugin_reads_them(resqued, queue, gate):
    arbiter = resqued("-n", 2, "--queue", "a", "-p", "harness.remote")
    arbiter.wait_for_workers(2)
    remote = Remote(arbiter.directory)
    there = gate()
    queue("a").enqueue(jobs.wait_at, str(there))
    there.wait_until_reached()
    queue("b").enqueue(jobs.nothing)
    shown = "[(q.name, q.waiting, q.workers, q.busy) for q in arbiter.queues.values()]"
    wait_for(
        lambda: [*map(tuple, remote.eval(shown))] == [("a", 0, 2, 1), ("b", 1, 0, 0)],
        10,
        "both queues",
    )
    assert remote.eval("arbiter.redis.answers") is True
    assert remote.eval("arbiter.counts['a'].started") == 1
    there.open()
    wait_for(lambda: remote.eval("arbiter.counts['a'].finished") == 1, 10, "the end")


def test_the_job_of_a_killed_worker_is_counted_with_its_recovery(resqued, queue, gate):
    arbiter = resqued(
        *("-n", 1, "--queue", "a", "-p", "harness.remote"), expect_errors="killed|died|failed"
    )
    workers = arbiter.wait_for_workers(1)
    remote = Remote(arbiter.directory)
    there = gate()
    queue("a").enqueue(jobs.wait_at, str(there))
    there.wait_until_reached()
    arbiter.signal("KILL", pid=workers[1].pid)
    counts = "(arbiter.counts['a'].started, arbiter.counts['a'].failed)"
    wait_for(lambda: list(remote.eval(counts)) == [1, 1], 15, "the failure to be counted")
