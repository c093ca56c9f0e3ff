"""Answers that cannot be, in a running service: told with the plugin's name, and without effect."""

from __future__ import annotations

import pytest

from harness.waiting import stays_true, wait_for

NAMED = r"plugin 'resqued\.conf\.py'"


@pytest.mark.parametrize(("answer", "shown"), [("True", "True"), ("''", "''"), ("1", "1")])
def test_no_reason_is_no_reason_to_recycle(resqued, queue, answer, shown):
    config = f"def should_recycle(worker):\n    return {answer}\n"
    arbiter = resqued("-r", "harness.jobs", config=config, expect_errors="should_recycle")
    worker = arbiter.wait_for_workers(1)[1]
    jobs = [queue().enqueue("harness.jobs.noop") for _ in range(3)]
    for job in jobs:
        wait_for(lambda job=job: job.get_status(refresh=True) == "finished", 15, "a job")
    told = arbiter.wait_for(
        rf"hook should_recycle: {NAMED} returned {shown}, but should_recycle wants a reason in"
        r" a few words, or None; the worker goes on \(resqued\.conf\.py:1\)"
    )
    assert len(told) == 1, "repeats are thinned"
    assert arbiter.workers()[1].pid == worker.pid
    assert "recycling reason" not in arbiter.log()


@pytest.mark.parametrize("answer", ["-1", "True", "2.5", "10**9", "'4'"])
def test_a_number_of_workers_that_cannot_be_changes_nothing(resqued, answer):
    config = f"def worker_count(current):\n    return {answer}\n"
    arbiter = resqued(config=config, expect_errors="worker_count")
    arbiter.wait_for_workers(1)
    arbiter.wait_for(
        rf"hook worker_count: {NAMED} returned .*, but worker_count wants a whole number of"
        r" workers, 0 to 4095, or None"
    )
    stays_true(lambda: len(arbiter.workers()) == 1, 1, "one worker")


def test_queues_that_cannot_be_are_passed_over(resqued, queue):
    config = "def choose_queues(number):\n    return ['a\\n']\n"
    arbiter = resqued(
        "-r", "harness.jobs", "--queue", "low", config=config, expect_errors="choose_queues"
    )
    arbiter.wait_for_workers(1)
    arbiter.wait_for(
        rf"hook choose_queues: {NAMED} returned a queue that cannot be: queue 'a\\x0a' has control"
        r" characters in its name; rename it \(resqued\.conf\.py:1\); asked 'shares' instead"
    )
    job = queue("low").enqueue("harness.jobs.noop")
    wait_for(lambda: job.get_status(refresh=True) == "finished", 15, "a job")


UNSENDABLE = {
    "an object in it": "{'a': object()}",
    "itself in it": "(lambda made: made.update(made=made) or made)({})",
    "too deep": "functools.reduce(lambda made, _: {'a': made}, range(100000), {})",
}


@pytest.mark.parametrize("answer", UNSENDABLE.values(), ids=UNSENDABLE)
def test_an_answer_to_a_verb_that_is_no_json_is_told_with_its_plugin(resqued, answer):
    config = f"import functools\ndef control(verb):\n    return {answer}\n"
    arbiter = resqued(config=config, expect_errors="hook control")
    arbiter.wait_for_workers(1)
    asked = arbiter.control("shout")
    assert asked.returncode == 1
    wrong = "no plugin has answered 'shout': plugin 'resqued.conf.py' returned"
    assert wrong in asked.stderr
    arbiter.wait_for(rf"hook control: {NAMED} returned .*, but control wants a dict of plain JSON")
