"""Jobs that wait where no worker serves: one warning, and a field that everybody may show."""

from __future__ import annotations

import pytest

from harness import jobs
from harness.board import facts_of
from harness.waiting import wait_for
from resqued.logs import logger
from resqued.steward.unserved import AGAIN, OWN_PATIENCE, PATIENCE, Unserved


@pytest.fixture
def warnings():
    """The texts of all warnings so far."""
    texts: list[str] = []
    sink = logger.add(lambda message: texts.append(message.record["message"]), level="WARNING")
    yield texts
    logger.remove(sink)


def nothing():
    return []


def test_one_warning_when_it_lasts(warnings):
    unserved = Unserved(["a"])
    assert not unserved.find({"b": 5}, nothing, 0.0)
    assert not unserved.find({"b": 5}, nothing, PATIENCE - 1)
    assert not warnings
    for after in range(100):
        assert unserved.find({"b": 5}, nothing, PATIENCE + after) == ["b"]
    assert len(warnings) == 1 and "queue=b: 5 jobs wait" in warnings[0]


def test_a_queue_that_comes_and_goes_is_warned_of_once_an_hour(warnings):
    unserved, now = Unserved([]), 0.0
    while now < AGAIN:
        unserved.find({"b": 1}, nothing, now)
        unserved.find({"b": 1}, nothing, now + PATIENCE)
        assert unserved.any
        unserved.find({}, nothing, now + PATIENCE + 1)
        assert not unserved.any
        now += 100
    assert len(warnings) == 1
    unserved.find({"b": 1}, nothing, now + PATIENCE)
    unserved.find({"b": 1}, nothing, now + 2 * PATIENCE)
    assert len(warnings) == 2


def test_workers_of_a_queue_of_the_settings_may_take_longer_to_start():
    unserved = Unserved(["a"])
    assert not unserved.find({"a": 1}, nothing, 0.0)
    assert not unserved.find({"a": 1}, nothing, OWN_PATIENCE - 1)
    assert unserved.find({"a": 1}, nothing, OWN_PATIENCE)


def test_a_misspelt_name_is_guessed(warnings):
    unserved = Unserved(["mails"])
    for now in (0.0, PATIENCE):
        unserved.find({"mials": 1}, lambda: ["reports", "mails"], now)
    assert "it may be mails, misspelt" in warnings[0]


def test_many_at_once_are_one_line_and_names_do_no_harm(warnings):
    unserved = Unserved([])
    for now in (0.0, PATIENCE):
        unserved.find({f"q{number}\n\x1b[31m": 1 for number in range(30)}, nothing, now)
    assert len(warnings) == 1
    assert "30 queues" in warnings[0] and "\n" not in warnings[0] and "\x1b" not in warnings[0]


def test_a_misspelt_queue_is_named_in_the_log_and_on_the_scoreboard(resqued, queue):
    arbiter = resqued("-n", 1, "--queue", "mails", expect_errors="WARNING")
    arbiter.wait_for_workers(1)
    for _ in range(5):
        queue("mials").enqueue(jobs.nothing)

    def unserved():
        facts = facts_of(arbiter.pid)
        return facts is not None and [each.name for each in facts.queues if each.unserved]

    wait_for(lambda: unserved() == ["mials"], 2 * PATIENCE, "the queue to be found")
    line = r"WARNING .*queue=mials: 5 jobs wait, and no worker serves it.*mails, misspelt"
    assert len(arbiter.wait_for(line)) == 1
    queue("mials").empty()
    wait_for(lambda: not unserved(), 10, "it to be over")
