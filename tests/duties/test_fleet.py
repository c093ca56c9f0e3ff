"""Duties with `once="fleet"`: one keeper among all arbiters, with a token that grows."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

from harness import processes
from harness.duties import duties_file, wait_for_process
from harness.waiting import scaled, stays_true, wait_for
from resqued.broker.keeper_locks import LIFE
from resqued.duties.keeper import LOOK

COUNT = duties_file(
    """
    def count(duty):
        say(f"{duty.arbiter} {duty.token} begins")
        time.sleep(0.05)
        say(f"{duty.arbiter} {duty.token} ends")

    def duties(duties):
        duties.add("count", count, every=0.1, once="fleet")
    """
)


def kill_all(arbiter) -> None:
    """Its host has lost power."""
    found = [psutil.Process(arbiter.pid), *processes.descendants(arbiter.pid)]
    for process in found:
        process.suspend()  # none can react to the end of another
    for process in found:
        process.kill()


def arbiters(lines):
    return {line.split()[0] for line in lines}


def tokens(lines):
    """In the order in which they first called it."""
    return list(dict.fromkeys(int(line.split()[1]) for line in lines))


def assert_one_at_a_time(lines):
    for begin, end in zip(lines[::2], lines[1::2], strict=False):
        assert begin.endswith("begins")
        assert end == begin.replace("begins", "ends")


def test_one_of_two_arbiters_calls_it_and_the_other_takes_over_when_that_leaves(resqued, calls):
    first = resqued(config=COUNT)
    wait_for(calls)
    second = resqued(config=COUNT)
    wait_for_process(second)
    seen = len(calls())
    wait_for(lambda: len(calls()) > seen + 20)
    assert len(arbiters(calls())) == 1
    assert first.stop("QUIT") == 0
    left, at = time.monotonic(), len(calls())
    wait_for(lambda: len(calls()) > at + 4)
    assert time.monotonic() - left < scaled(LOOK + 2)
    assert len(arbiters(calls())) == 2
    older, newer = tokens(calls())
    assert newer > older
    assert_one_at_a_time(calls())
    second.wait_for(rf"duty 'count': this arbiter is its keeper, token {newer}$")


@pytest.mark.slow
def test_another_takes_over_when_the_host_of_the_keeper_is_lost(resqued, calls):
    first = resqued(config=COUNT)
    wait_for(calls)
    second = resqued(config=COUNT)
    wait_for_process(second)
    kill_all(first)
    killed = time.monotonic()
    assert first.exit() == -signal.SIGKILL
    wait_for(lambda: len(arbiters(calls())) == 2, 20)
    assert time.monotonic() - killed < 15 + scaled(0.5)
    older, newer = tokens(calls())
    assert newer > older


def test_a_new_generation_takes_over_at_once(resqued, calls):
    arbiter = resqued(config=COUNT)
    first = wait_for_process(arbiter)
    wait_for(calls)
    arbiter.signal("HUP")
    wait_for_process(arbiter, other_than=first.pid)
    wait_for(lambda: len(tokens(calls())) == 2, LOOK + 2)
    older, newer = tokens(calls())
    assert newer > older
    assert len(arbiters(calls())) == 1


def test_so_does_the_successor_of_a_process_that_was_killed(resqued, calls):
    arbiter = resqued(config=COUNT, expect_errors="duties pid=")
    process = wait_for_process(arbiter)
    wait_for(calls)
    process.kill()
    wait_for(lambda: len(tokens(calls())) == 2, LOOK + 2)
    older, newer = tokens(calls())
    assert newer > older


def test_the_period_is_kept_over_a_reload_and_another_keeper(resqued, calls):
    text = COUNT.replace("every=0.1", "every=3600")
    first, second = resqued(config=text), resqued(config=text)
    wait_for(lambda: len(calls()) == 2)
    old = wait_for_process(first)
    first.signal("HUP")
    wait_for_process(first, other_than=old.pid)
    assert first.stop("QUIT") == 0
    second.wait_for("this arbiter is its keeper", timeout=20)
    stays_true(lambda: len(calls()) == 2, 1, "it is not due")


FENCED = duties_file(
    """
    def write(duty):
        from resqued.duties import fenced
        say(f"{duty.arbiter} {duty.token} begins")
        while not Path("go").exists():
            time.sleep(0.01)
        with fenced(duty.connection, duty.token) as pipeline:
            pipeline.set("written", duty.token)
        say(f"{duty.arbiter} {duty.token} ends")

    def duties(duties):
        duties.add("write", write, every=0.2, once="fleet", limit=3600)
    """
)


@pytest.mark.slow
def test_what_a_stopped_keeper_writes_later_is_refused(resqued, calls, connection):
    first = resqued(config=FENCED)
    wait_for(calls)
    second = resqued(config=FENCED)
    wait_for_process(second)
    process = wait_for_process(first)
    os.kill(process.pid, signal.SIGSTOP)
    (second.directory / "go").touch()
    wait_for(lambda: len(arbiters(calls())) == 2 and calls()[-1].endswith("ends"), LIFE + 5)
    older, newer = tokens(calls())[:2]
    (first.directory / "go").touch()
    os.kill(process.pid, signal.SIGCONT)
    first.wait_for(rf"duty 'write': token {older} is not in force")
    assert int(connection.get("written")) == newer > older
    assert f"{older} ends" not in "\n".join(calls())
    seen = len(calls())
    wait_for(lambda: len(calls()) > seen + 4)
    assert tokens(calls()) == [older, newer]


@pytest.mark.slow
def test_the_lock_is_kept_during_a_long_call(resqued, calls):
    first = resqued(config=FENCED)
    wait_for(calls)
    second = resqued(config=FENCED)
    wait_for_process(second)
    stays_true(lambda: len(calls()) == 1, LIFE + 2, "the call goes on")
    (first.directory / "go").touch()
    wait_for(lambda: len(calls()) > 2)
    assert len(tokens(calls())) == 1


def test_a_lock_of_another_type_holds_up_no_other_duty(resqued, calls, connection):
    connection.hset("rq:resqued:keeper:count", "a", "b")
    arbiter = resqued(
        config=COUNT
        + """
    duties.add("other", lambda duty: say("other"), every=0.1)
""",
        expect_errors="no keeper of duty 'count': WRONGTYPE",
    )
    wait_for(lambda: len(calls()) > 10)
    assert set(calls()) == {"other"}
    assert arbiter.log().count("WRONGTYPE") == 1


def test_redis_away_and_back(resqued, calls, valkey):
    arbiter = resqued(config=COUNT)
    process = wait_for_process(arbiter)
    wait_for(calls)
    valkey.stop()
    arbiter.wait_for(rf"duties gen=1 pid={process.pid} redis \S+ ")
    seen = len(calls())
    stays_true(lambda: len(calls()) <= seen + 1, 1, "nothing is called")
    valkey.start()
    wait_for(lambda: len(calls()) > seen + 4)
    lines = [
        line for line in arbiter.log().splitlines() if f"duties gen=1 pid={process.pid}" in line
    ]
    assert len([line for line in lines if "redis" in line]) == 2
    assert wait_for_process(arbiter).pid == process.pid


def test_an_outage_met_by_a_function_is_no_failure_of_it(resqued, calls, valkey):
    arbiter = resqued(
        config=duties_file(
            """
            def beat(duty):
                say("begins")
                duty.connection.incr("beats")
                say("ends")

            def duties(duties):
                duties.add("beat", beat, every=0.1)
            """
        )
    )
    wait_for(lambda: "ends" in calls())
    valkey.stop()
    arbiter.wait_for(r"duties gen=1 pid=\d+ redis \S+ ")
    begun = calls().count("begins")
    stays_true(lambda: calls().count("begins") == begun, 2, "Redis is asked first")
    valkey.start()
    wait_for(lambda: calls().count("begins") > begun + 3)
    assert "duty 'beat'" not in arbiter.log()
