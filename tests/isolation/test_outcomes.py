"""What a job in a child leaves in Redis is what a job in the worker leaves."""

from __future__ import annotations

import pytest
from rq import Callback, Repeat, Retry

from harness import jobs
from harness.waiting import wait_for
from isolation import tasks


@pytest.fixture
def told(connection):
    return lambda: [raw.decode() for raw in connection.lrange("told", 0, -1)]


def test_results_failures_and_callbacks(isolated, queue, connection, ends, told):
    isolated(
        "--exception-handler",
        "isolation.tasks.handle",
        expect_errors="raised|failed job|rq.worker|Traceback|told",
    )
    value = {"a": [1, None, b"\0"], 2: "ü"}
    finished = queue().enqueue(tasks.give, value, on_success=Callback(tasks.on_success))
    assert ends(finished) == "finished"
    assert finished.return_value(refresh=True) == value
    assert finished.latest_result().type.name == "SUCCESSFUL"
    none = queue().enqueue(tasks.give, None)
    assert ends(none) == "finished"
    assert none.return_value(refresh=True) is None
    unfit = queue().enqueue(tasks.give_unserializable)
    assert ends(unfit) == "finished"
    assert unfit.return_value(refresh=True) == "Unserializable return value"
    failed = queue().enqueue(jobs.fail, "so", on_failure=Callback(tasks.on_failure))
    assert ends(failed) == "failed"
    assert "ValueError: so" in failed.latest_result().exc_string
    spoiled = queue().enqueue(tasks.give, 1, on_success=Callback(tasks.fail_on_success))
    assert ends(spoiled) == "failed"
    assert "KeyError: 'in the callback'" in spoiled.latest_result().exc_string
    assert told() == [
        f"success {value}",
        "failure ValueError ('so',)",
        "handler ValueError",
        "handler KeyError",
    ]


def test_retries_repeats_and_what_a_job_changes_of_itself(isolated, queue, connection, ends):
    isolated(expect_errors="raised|failed job|rq.worker|Traceback|told|no more")
    retried = queue().enqueue(jobs.fail, retry=Retry(2))
    wait_for(lambda: retried.get_status(refresh=True) == "failed", 20, "three failures")
    retried.refresh()
    assert retried.retries_left == 0
    asked = queue().enqueue(tasks.again, 2)
    assert ends(asked) == "failed"
    names = [result.type.name for result in reversed(asked.results())]
    assert names == ["RETRIED", "RETRIED", "MAX_RETRIES_EXCEEDED"]
    assert asked.latest_result().return_value.max == 2
    repeated = queue().enqueue(jobs.noop, repeat=Repeat(2, 0))
    wait_for(lambda: len(repeated.results()) == 3, 20, "three runs")
    last = queue().enqueue(tasks.no_more, retry=Retry(3), meta={"old": True})
    assert ends(last) == "failed"
    noted = queue().enqueue(tasks.note, "here", meta={"old": True})
    assert ends(noted) == "finished"
    assert noted.return_value(refresh=True) == "started"
    assert noted.get_meta(refresh=True) == {"old": True, "note": "here"}


def test_dependents_follow(isolated, queue, ends):
    isolated()
    first = queue().enqueue(tasks.give, 1)
    second = queue().enqueue(tasks.give, 2, depends_on=first)
    assert ends(second) == "finished"


def test_hooks_run_in_the_child_and_none_twice(isolated, queue, ends):
    arbiter = isolated(probe=True)
    job = queue().enqueue(jobs.noop)
    assert ends(job) == "finished"
    (after,) = arbiter.wait_for_call("after_job")
    (before,) = arbiter.calls("before_job")
    (around,) = arbiter.calls("perform_job")
    child = job.return_value(refresh=True)
    assert {before.pid, around.pid, after.pid} == {child}
    assert after.arguments["outcome"]["status"] == "finished"
    assert arbiter.wait_for_workers(1)[1].pid != child


def test_large_results_and_the_limit(isolated, queue, ends):
    isolated("--max-result", "110M", expect_errors="raised|failed job|rq.worker|Traceback|result")
    fits = queue().enqueue(tasks.give_bytes, 100 * 10**6)
    assert ends(fits, 60) == "finished"
    assert len(fits.return_value(refresh=True)) == 100 * 10**6
    too_large = queue().enqueue(tasks.give_bytes, 120 * 2**20)
    assert ends(too_large, 60) == "failed"
    reason = too_large.latest_result().exc_string
    assert "ResultTooLarge" in reason
    assert "--max-result" in reason


@pytest.mark.parametrize("forked", ["for it", "ahead"])
def test_exit_functions_of_the_child_run_and_random_numbers_differ(
    isolated, queue, ends, tmp_path, ahead, forked
):
    isolated()
    place = tmp_path / "exit"
    if forked == "ahead":
        ahead()
    assert ends(queue().enqueue(tasks.registers_exit, str(place))) == "finished"
    wait_for(place.exists, 10, "the exit function")
    many = [queue().enqueue(tasks.numbers) for _ in range(5)]
    assert [ends(job) for job in many] == ["finished"] * 5
    assert len({job.return_value(refresh=True) for job in many}) == 5
