"""The hook `order_queues`: where the next job may be taken from."""

from __future__ import annotations

import time

import pytest

from harness import jobs
from harness.waiting import is_late, stays_true, wait_for
from resqued import hookimpl
from resqued.scoreboard import Phase, Reason
from resqued.worker.queue_order import LOOK_AGAIN


class Chosen:
    """Answers what a list in Redis says, `-` being nothing; and notes each question there."""

    def __init__(self, connection, key="answer"):
        self.connection, self.key = connection, key

    @hookimpl
    def order_queues(self, worker, queues):
        facts = [worker.job_id, worker.function, worker.queue, worker.job_started, worker.timeout]
        self.connection.rpush("asked", ",".join(queues))
        if facts != [None] * 5:
            self.connection.rpush("wrong", repr(facts))
        answer = [raw.decode() for raw in self.connection.lrange(self.key, 0, -1)]
        return None if not answer else [] if answer == ["-"] else answer


def answer(connection, *names, key="answer"):
    with connection.pipeline() as pipeline:
        pipeline.delete(key)
        pipeline.rpush(key, *names)
        pipeline.execute()


def took(crew):
    return [
        line.split("queue=")[1].split()[0]
        for line in crew.log.read_text().splitlines()
        if "took job=" in line
    ]


def run_out(crew, connection, *queues, **settings):
    """Start a worker in a burst, and wait for its end; the queues in the order of their jobs."""
    hand = crew.start(*queues, plugins=[Chosen(connection)], burst=True, wait=False, **settings)
    assert hand.gone(20) == 0
    assert hand.record.reason is Reason.BURST
    assert not connection.exists("wrong"), connection.lrange("wrong", 0, -1)
    return took(crew)


def fill(queue, *names, many=2):
    return [queue(name).enqueue(jobs.nothing) for _ in range(many) for name in names]


SETTINGS = {
    "fast path": {},
    "RQ's way": {"fast_path": "off"},
    "fork": {"isolation": ("fork",)},
    "rq.Worker": {"worker_class": "rq.Worker"},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_order_of_the_answer_counts(crew, queue, connection, settings):
    fill(queue, "a", "b", "c")
    answer(connection, "c", "a")
    assert run_out(crew, connection, "a", "b", "c", **settings) == ["c", "c", "a", "a"]
    assert queue("b").count == 2, "a queue left out counts as empty for a burst"


def test_none_leaves_the_queues(crew, queue, connection):
    fill(queue, "b", "a")
    assert run_out(crew, connection, "a", "b") == ["a", "a", "b", "b"]


@pytest.mark.parametrize("strategy", ["round_robin", "random", "default"])
def test_the_hook_is_asked_with_the_order_of_the_strategy(crew, queue, connection, strategy):
    fill(queue, "a", "b", "c", many=3)
    assert len(run_out(crew, connection, "a", "b", "c", dequeue_strategy=strategy)) == 9
    asked = {raw.decode() for raw in connection.lrange("asked", 0, -1)}
    assert all(sorted(names.split(",")) == ["a", "b", "c"] for names in asked)
    assert (len(asked) > 1) == (strategy != "default")


def test_a_wildcard_is_expanded_before_the_question(crew, queue, connection):
    fill(queue, "x", "y", "z")
    answer(connection, "z", "y", "nowhere")
    assert run_out(crew, connection, "*") == ["z", "z", "y", "y"]


def test_names_that_are_not_served_are_logged_once(crew, queue, connection):
    fill(queue, "a", many=5)
    answer(connection, "elsewhere", "a", "a")
    assert run_out(crew, connection, "a", "b") == ["a"] * 5
    assert crew.log.read_text().count("order_queues answered elsewhere, which") == 1


def test_plugins_form_a_chain_and_one_that_fails_is_left_out(crew, queue, connection):
    class Reverse:
        @hookimpl(trylast=True)
        def order_queues(self, queues):
            return queues[::-1]

    class Drop:
        @hookimpl(tryfirst=True)
        def order_queues(self, queues):
            queues.clear()  # its own copy
            return ["a", "b"]

    class Raise:
        @hookimpl
        def order_queues(self, queues):
            raise SystemExit(3)

    class Nonsense:
        @hookimpl
        def order_queues(self, queues):
            return "a"

    fill(queue, "a", "b", "c")
    plugins = [Reverse(), Raise(), Nonsense(), Drop()]
    hand = crew.start("a", "b", "c", plugins=plugins, burst=True, wait=False)
    assert hand.gone() == 0
    assert took(crew) == ["b", "b", "a", "a"]


def test_nothing_is_taken_while_the_answer_is_empty(crew, queue, connection, ends):
    answer(connection, "-")
    hand = crew.start("a", plugins=[Chosen(connection)])
    (job,) = fill(queue, "a", many=1)
    stays_true(lambda: queue("a").count == 1, 1.0, "the job waits")
    before = connection.llen("asked")
    answer(connection, "a")
    assert ends(job, LOOK_AGAIN + 5) == "finished"
    assert connection.llen("asked") > before
    hand.reached(Phase.IDLE)
    hand.stop_now()
    assert hand.gone() == 0


def test_a_worker_that_may_take_nothing_asks_seldom(crew, connection):
    answer(connection, "-")
    crew.start("a", plugins=[Chosen(connection)])
    time.sleep(0.5)
    before = connection.llen("asked")
    time.sleep(2)
    assert connection.llen("asked") - before <= 1


@pytest.mark.parametrize("count", [1, 5])
def test_a_call_makes_all_idle_workers_look_at_once(crew, queue, connection, gate, count):
    answer(connection, "-")
    hands = [crew.start("a", plugins=[Chosen(connection)], wait=False) for _ in range(count)]
    for hand in hands:
        hand.reached(Phase.IDLE)
    doors = [gate() for _ in hands]
    for door in doors:
        queue("a").enqueue(jobs.wait_at, str(door))
    wait_for(lambda: connection.llen("asked") >= count, 10, "all to ask")
    time.sleep(0.5)  # they sleep by now
    answer(connection, "a")
    called = time.monotonic()
    crew.board.call_idle()
    pids = {door.wait_until_reached(10) for door in doors}
    assert pids == {hand.pid for hand in hands}
    assert not is_late(called, LOOK_AGAIN * 0.5)


def test_workers_with_other_answers_do_not_wait_for_each_other(crew, queue, connection, ends):
    """Those that may take nothing do not keep a push from one that may."""
    answer(connection, "-", key="first")
    answer(connection, "a", key="second")
    for key in ("first", "first", "second"):
        crew.start("a", "b", plugins=[Chosen(connection, key)])
    time.sleep(0.5)
    delays = []
    for _ in range(5):
        pushed = time.monotonic()
        assert ends(queue("a").enqueue(jobs.nothing)) == "finished"
        delays.append(time.monotonic() - pushed)
    assert sorted(delays)[2] < 1


def test_a_push_to_a_queue_left_out_wakes_nobody(crew, queue, connection):
    answer(connection, "a")
    crew.start("a", "b", plugins=[Chosen(connection)])
    time.sleep(0.5)
    before = connection.llen("asked")
    fill(queue, "b", many=3)
    time.sleep(1)
    assert connection.llen("asked") - before <= 1


def test_many_idle_workers_with_the_hook_share_one_leader(crew, queue, connection, ends):
    for _ in range(6):
        crew.start("a", plugins=[Chosen(connection)], wait=False)
    for hand in crew.hands:
        hand.reached(Phase.IDLE)
    time.sleep(1)
    before = connection.llen("asked")
    assert ends(queue("a").enqueue(jobs.nothing)) == "finished"
    time.sleep(0.3)
    assert connection.llen("asked") - before <= 5


@pytest.mark.parametrize("way", [(), ("--isolation", "fork"), ("-w", "rq.Worker")], ids="_".join)
def test_the_arbiter_calls_by_its_verb(resqued, queue, connection, way):
    arbiter = resqued(
        "-n",
        3,
        *way,
        config="""
            import pathlib

            def order_queues(queues):
                return queues if pathlib.Path("open").exists() else []

            def signal_received(arbiter, signame):
                if signame == "WINCH":
                    arbiter.look_again()
                    return True
        """,
    )
    arbiter.wait_for_workers(3)
    given = [queue().enqueue(jobs.nothing) for _ in range(3)]
    stays_true(lambda: queue().count == 3, 0.5, "they wait")
    (arbiter.directory / "open").touch()
    arbiter.signal("WINCH")
    called = time.monotonic()
    wait_for(lambda: all(job.get_status() == "finished" for job in given), 10, "all to be done")
    assert not is_late(called, LOOK_AGAIN * 0.5)
