"""Redis is away, frozen or slow, and connections are cut: the whole command, under load."""

from __future__ import annotations

import pytest

from faults.load import kinds, obeys, pids, under_way
from harness.waiting import scaled, stays_true, wait_for

# --- Away ------------------------------------------------------------------------------------


def test_down_at_the_start_workers_connect_and_the_arbiter_obeys(start, valkey, load, once):
    valkey.stop()
    arbiter = start(2, wait=False)
    arbiter.wait_for("no worker can reach Redis yet")
    wait_for(
        lambda: {each["state"] for each in arbiter.status()["workers"]} == {"connecting"},
        what="their state to be shown",
    )
    obeys(arbiter, 2)
    arbiter.signal("WINCH")
    arbiter.wait_for_workers(0)
    arbiter.signal("HUP")
    arbiter.wait_for("gen=2 loaded; a trial worker has to come up")
    valkey.start()
    arbiter.wait_for("gen=2 in service")
    arbiter.wait_for_workers(2)
    once(arbiter, load(10))
    assert " ended" not in arbiter.log(), "nobody had to die for it"


def test_restarted_under_load_twice(start, valkey, load, held, once):
    arbiter = start(3)
    before = pids(arbiter)
    ids = []
    for end in (valkey.stop, valkey.kill):
        job, there = held()
        ids += [job.id, *load(30)]
        mark = arbiter.mark()
        end()
        there.open()
        arbiter.wait_for("does not answer|not written yet", after=mark)
        obeys(arbiter, 3)
        valkey.start()
        once(arbiter, ids)
    assert before <= pids(arbiter)


def test_down_under_load_it_still_leaves_and_loses_nothing(start, valkey, load, held, connection):
    """QUIT waits for outcomes that cannot be written; from the end of its grace on it is a TERM."""
    arbiter = start(3, "--grace", 1, expect_errors="without having recovered|not recovered")
    job, there = held()
    ids = [job.id, *load(60)]
    under_way(arbiter)
    valkey.stop()
    there.open()
    assert arbiter.stop("QUIT") in (0, 75)
    valkey.start()
    assert kinds(connection, ids) <= {"queue", "taken", "wip", "finished"}


def test_what_an_outage_outlives_is_not_run_twice(start, held, connection, once):
    """Everything about the worker and its job that has a time to live is gone when it is over."""
    arbiter = start(2)
    job, there = held()
    for pattern in ("rq:execution:*", "rq:worker:*", "rq:executions:*"):
        for key in connection.scan_iter(match=pattern):
            connection.delete(key)
    connection.delete("rq:workers", "rq:workers:high", "rq:workers:low")
    there.open()
    once(arbiter, [job.id])
    wait_for(lambda: {w["done"] for w in arbiter.status()["workers"]} == {0, 1}, what="the count")


# --- Frozen, slow, cut -----------------------------------------------------------------------


def test_frozen_it_is_given_up_in_time_and_signals_are_obeyed(start, valkey, load, held, once):
    """Longer than a command may take, so that replies come when nobody waits for them."""
    arbiter = start(3, RQ_REDIS_URL=f"{valkey.url}?socket_timeout=0.5")
    job, there = held()
    ids = [job.id, *load(60)]
    under_way(arbiter)
    valkey.freeze()
    there.open()
    arbiter.wait_for("Timeout|does not answer|not written yet")
    obeys(arbiter, 3)
    stays_true(lambda: arbiter.running, 1, "it waits")
    valkey.thaw()
    once(arbiter, ids)


def test_frozen_it_still_leaves(start, valkey, load, held, connection):
    arbiter = start(3, expect_errors="without having recovered")
    job, _ = held()
    ids = [job.id, *load(60)]
    under_way(arbiter)
    valkey.freeze()
    assert arbiter.stop("TERM", timeout=10) in (0, 75)
    valkey.thaw()
    assert kinds(connection, ids) <= {"queue", "taken", "wip", "finished"}


def test_slow_it_is_slower_and_nothing_else(start, proxy, load, once):
    arbiter = start(3, "--redis", proxy.url)
    proxy.delay(0.04)
    once(arbiter, load(12))
    assert "WARNING" not in arbiter.log()


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("auto", b"EVALSHA"),
        ("auto", b"$8\r\nfinished\r\n"),
        ("off", b"EVALSHA"),
        ("off", b"PERSIST"),
        ("off", b"successful_job_count"),
    ],
    ids=["one script, take", "one script, end", "take", "start", "end"],
)
def test_cut_in_the_middle_of_a_reply(start, proxy, load, once, path, command):
    arbiter = start(2, "--redis", proxy.url, "--fast-path", path)
    ids = []
    for passed in (0, 1, 5, 30):
        proxy.cut_reply(command, passed)
        ids += load(4)
        assert proxy.swallowed.wait(scaled(10))
    once(arbiter, ids)


def test_cut_again_and_again_under_load(start, proxy, load, once):
    arbiter = start(3, "--redis", proxy.url)
    ids = load(60)
    for done in range(5, 50, 5):
        wait_for(lambda done=done: len(arbiter.ledger.ended()) >= done, 20, "more jobs done")
        proxy.cut()
    once(arbiter, ids)
