"""What the log says, as text and as JSON, about jobs, signals, outages and starts that fail."""

from __future__ import annotations

import datetime
import json
import re

import pytest
from rq import Retry

from harness.command import run
from harness.waiting import wait_for
from resqued.log_events import EVENTS, LogEvent

APP = """
import logging, threading, time
from loguru import logger

def speak(secret):
    logging.getLogger("theirs").warning("hello", extra={"size": 7, "nan": float("nan")})
    logger.bind(rows=12).info("from loguru")
    thread = threading.Thread(target=lambda: logger.info("from a thread"))
    thread.start()
    thread.join()

def fail(secret):
    raise ValueError("no such user")

logger.info("loading")
"""
FAILS = "failed job|rq.worker|Traceback|no such user"
ALWAYS = {"time", "level", "logger", "message"}


def lines(arbiter):
    """The records of a log in JSON."""
    return [json.loads(line) for line in arbiter.log().splitlines()]


@pytest.mark.parametrize("isolation", ["worker", "fork"])
def test_json_has_events_with_fields_and_the_job_of_the_applications_lines(
    resqued, queue, isolation
):
    retry = {"max": 2, "interval": 600}
    spoke = queue().enqueue("app.speak", "top secret")
    failed = queue().enqueue("app.fail", "top secret")
    retried = queue().enqueue("app.fail", "top secret", retry=Retry(**retry))
    arbiter = resqued(
        *("-n", 1, "--burst", "-r", "app", "--log-format", "json", "--isolation", isolation),
        app=APP,
        expect_errors=FAILS,
    )
    assert arbiter.exit(40) == 0
    records = lines(arbiter)
    for record in records:
        assert record.keys() >= ALWAYS
        if record["logger"].startswith("resqued"):
            meaning = EVENTS[LogEvent(record["event"])]
            known = {*meaning.fields, *ALWAYS, "event", "process", "steward", "details"}
            assert record.keys() <= known | {"worker", "gen", "pid", "traceback"}, record
    of = {job: {} for job in (spoke.id, failed.id, retried.id)}
    for record in records:
        if record.get("event", "").startswith("job_"):
            of[record["job"]][record["event"]] = record
    done = of[spoke.id]["job_finished"]
    assert (done["queue"], done["function"], done["outcome"]) == (
        "default",
        "app.speak",
        "finished",
    )
    assert isinstance(done["seconds"], float)
    assert isinstance(of[spoke.id]["job_started"]["waited"], float)
    broken = of[failed.id]["job_failed"]
    assert (broken["level"], broken["exception"]) == ("ERROR", "ValueError: no such user")
    assert "in fail" in broken["traceback"]
    assert "rq/" not in broken["traceback"]
    again = of[retried.id]["job_retried"]
    assert (again["retries_left"], again["level"]) == (1, "WARNING")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", again["retry_at"])
    said = {record["message"]: record for record in records if "resqued" not in record["logger"]}
    for text in ("hello", "from loguru", "from a thread"):
        bound = [said[text][name] for name in ("job", "queue", "function")]
        assert bound == [spoke.id, "default", "app.speak"]
    assert (said["hello"]["size"], said["hello"]["nan"], said["hello"]["logger"]) == (
        7,
        "nan",
        "theirs",
    )
    assert said["from loguru"]["rows"] == 12
    assert "job" not in said["loading"]
    assert "secret" not in arbiter.log()


def test_text_says_function_seconds_exception_and_the_next_try(resqued, queue):
    failed = queue().enqueue("app.fail", "top secret")
    queue().enqueue("app.fail", "top secret", retry=Retry(max=3, interval=600))
    queue().enqueue("app.speak", "top secret")
    arbiter = resqued("-n", 1, "--burst", "-r", "app", app=APP, expect_errors=FAILS)
    assert arbiter.exit(40) == 0
    log = arbiter.log()
    where = r"queue=default seconds=\d+\.\d{3} function=app"
    assert re.search(
        rf"ERROR .*failed job={failed.id} {where}.fail: ValueError: no such user\n", log
    )
    assert re.search(
        rf"WARNING .*retried job=\S+ {where}.fail: ValueError: no such user;"
        r" again in 600 s, at \d\d:\d\d:\d\d, 2 retries left\n",
        log,
    )
    assert re.search(rf"INFO .*finished job=\S+ {where}.speak\n", log)
    assert len(re.findall("Traceback", log)) == 2
    assert "rq/" not in log
    assert "secret" not in log


@pytest.mark.parametrize(
    ("setting", "shown"),
    [("failed", {"failed", "retried"}), ("none", set())],
)
def test_log_jobs_leaves_lines_out(resqued, queue, setting, shown):
    jobs = [queue().enqueue("app.fail", 1), queue().enqueue("app.speak", 1)]
    queue().enqueue("app.fail", 1, retry=Retry(max=3, interval=600))
    arbiter = resqued(
        *("-n", 1, "--burst", "-r", "app", "--log-jobs", setting), app=APP, expect_errors=FAILS
    )
    assert arbiter.exit(40) == 0
    found = set(re.findall(r"(took|finished|failed|retried) job=", arbiter.log()))
    assert found == shown
    assert f"from loguru rows=12 job={jobs[1].id}" in arbiter.log()


def test_a_signal_is_named_when_it_is_obeyed_and_the_first_line_says_what_runs(resqued):
    arbiter = resqued("-n", 1, "--queue", "a")
    arbiter.wait_for("worker=1 .* ready")
    arbiter.wait_for(r"redis \S+ answers in \d+\.\d ms, version \d")
    first = arbiter.log().splitlines()[0]
    for part in (
        "resqued ",
        "pid=",
        "Python 3",
        "rq ",
        "workers=1",
        "redis=",
        "isolation: ",
        "TERM: ",
    ):
        assert part in first
    arbiter.signal("TTIN")
    arbiter.wait_for("signal TTIN: grow")
    arbiter.signal("USR1")
    arbiter.wait_for("reopened \\(USR1\\)")
    arbiter.signal("HUP")
    arbiter.wait_for("signal HUP: reload")
    arbiter.wait_for("gen=2 in service")
    arbiter.signal("TERM")
    assert arbiter.exit() == 0
    assert "signal TERM: stop now" in arbiter.log()
    assert len(re.findall("USR1|reopened", arbiter.log())) == 2  # in one line


def test_an_outage_is_one_line_for_all_workers_and_one_at_its_end(resqued, valkey):
    arbiter = resqued("-n", 4)
    arbiter.wait_for("worker=4 .* ready")
    arbiter.wait_for("answers in")
    valkey.stop()
    arbiter.wait_for("does not answer")
    wait_for(lambda: _seconds_since(arbiter, "does not answer") > 5, 20, "workers to have met it")
    valkey.start()
    arbiter.wait_for(r"redis answers again after \d+\.\d s")
    assert len(re.findall("does not answer", arbiter.log())) == 1
    assert len(re.findall("answers again", arbiter.log())) == 1


def _seconds_since(arbiter, text):
    (line,) = [line for line in arbiter.log().splitlines() if text in line]
    then = datetime.datetime.fromisoformat(line[:23])
    return (datetime.datetime.now() - then).total_seconds()


def test_a_start_that_fails_says_so_with_the_name_of_the_log(tmp_path):
    status, _, error = run("-r", "no_such_module", "--log-file", "the.log", cwd=tmp_path)
    assert status == 78
    assert "resqued: error: gen=1 cannot be loaded" in error
    assert f"resqued: the log is {tmp_path}/the.log" in error
    assert "no_such_module" in (tmp_path / "the.log").read_text()
