"""Cron with the real command: reloads, deaths, two arbiters, steering, burst."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest
from rq import Queue
from rq.cron import CronScheduler

from harness import processes
from harness.command import BIN, environment
from harness.waiting import scaled, wait_for

SOON = """
    from resqued import cron

    cron.register("harness.jobs.noop", "ticks", interval=1, name="each second", misfire="all",
        result_ttl=0, failure_ttl=0)
"""


@pytest.fixture
def ticks(connection):
    """`ticks()`: the ticks that were enqueued, in milliseconds; no worker takes them."""
    queue = Queue("ticks", connection=connection)
    return lambda: [int(name.rpartition("-")[2]) for name in queue.job_ids]


def are_whole(found):
    """Whether none is missing, and none there twice."""
    return sorted(found) == list(range(min(found), min(found) + 1000 * len(found), 1000))


def ctl(valkey, *words):
    return subprocess.run(
        [str(BIN / "resquedctl"), "cron", *words, "--url", valkey.url],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=scaled(30),
        stdin=subprocess.DEVNULL,
    )


def duties_of(arbiter):
    """The pid of its duties process; 0: there is none."""
    found = processes.descendants(arbiter.pid)
    return next((each.pid for each in found if processes.title(each) == "resqued: duties"), 0)


def test_ticks_survive_a_reload_a_reexec_and_deaths(resqued, ticks):
    arbiter = resqued(
        *("-n", 1, "--queue", "other", "--cron", "app"),
        app=SOON,
        expect_errors="duties|fork server",
    )
    arbiter.wait_for("cron=each second enqueued")
    arbiter.signal("HUP")
    arbiter.wait_for("gen=2 in service", timeout=20)
    arbiter.signal("KILL", pid=wait_for(lambda: duties_of(arbiter), what="the duties process"))
    wait_for(lambda: duties_of(arbiter), 20, "another one")
    assert arbiter.control("reexec", "--wait", timeout=120).returncode == 0
    count = len(ticks())
    wait_for(lambda: len(ticks()) >= count + 3, 20, "more ticks")
    assert are_whole(ticks())
    assert arbiter.stop("TERM") == 0


@pytest.mark.parametrize("scheduler", [(), ("--no-scheduler",)])
def test_it_is_told_and_left_in_order_with_and_without_a_scheduler(resqued, connection, scheduler):
    arbiter = resqued("-n", 1, "--queue", "other", "--cron", "app", *scheduler, app=SOON)
    arbiter.wait_for("cron=each second enqueued")

    def told():
        facts = json.loads(arbiter.control("status", "--json").stdout)["redis"]
        cron = facts and (facts.get("schedule") or {}).get("cron")
        return cron and cron["jobs"]

    assert wait_for(told, 30, "the facts") == 1
    facts = json.loads(arbiter.control("status", "--json").stdout)["redis"]["schedule"]
    assert (facts["overdue"] is None) == bool(scheduler), "who moves none does not know"
    assert arbiter.stop("TERM") == 0
    assert not connection.zcard("rq:resqued:cron:seen")
    assert not connection.zcard("rq:cron_schedulers")


def test_two_arbiters_and_one_is_killed_with_all_it_has(resqued, ticks):
    arbiters = [resqued("-n", 1, "--queue", "other", "--cron", "app", app=SOON) for _ in range(2)]
    for each in arbiters:
        each.wait_for_workers(1)
    wait_for(lambda: len(ticks()) >= 3, 20, "ticks")
    keeper = next(each for each in arbiters if "cron=each second enqueued" in each.log())
    keeper.destroy()
    count = len(ticks())
    wait_for(lambda: len(ticks()) >= count + 4, 30, "the other to go on")
    assert are_whole(ticks())


def test_it_is_shown_paused_resumed_and_run(resqued, ticks, valkey):
    arbiter = resqued("-n", 1, "--queue", "other", "--cron", "app", app=SOON)
    wait_for(ticks, 20, "a tick")
    head, line = ctl(valkey).stdout.splitlines()
    assert head.split()[:4] == ["NAME", "SCHEDULE", "ZONE", "QUEUE"]
    assert line.startswith("each second  every 1 s")
    assert ctl(valkey, "pause", "each second").stdout == "each second: paused\n"
    assert "was paused already since" in ctl(valkey, "pause", "each second").stdout
    assert "paused since" in ctl(valkey).stdout
    before = len(ticks())
    done = ctl(valkey, "run", "each second")
    assert done.stdout.startswith("each second: enqueued job cron-")
    assert len(Queue("ticks", connection=valkey.connect()).job_ids) == before + 1
    assert ctl(valkey, "resume", "each second").stdout == "each second: resumed\n"
    unknown = ctl(valkey, "run", "each secund")
    assert unknown.returncode == 1
    assert unknown.stderr == "each secund: no such periodic job; did you mean each second?\n"
    line = "cron: 1 job, next each second a"
    wait_for(lambda: line in arbiter.control("status").stdout, 20, "it in the status")
    seen = set()  # it is looked at again after each tick

    def told():
        seen.update(
            re.findall("next each second (?:at|after) ([0-9:]+)", arbiter.control("status").stdout)
        )
        return len(seen) >= 5

    wait_for(told, 20, "the next tick of five")
    reader, end = os.pipe()
    os.close(reader)  # who reads the answer has left: it is done all the same
    words = [str(BIN / "resquedctl"), "cron", "pause", "each second", "--url", valkey.url]
    gone = subprocess.run(words, env=environment(), stdout=end, timeout=scaled(30))
    os.close(end)
    assert gone.returncode == 0
    assert "paused since" in ctl(valkey).stdout
    (job,) = json.loads(ctl(valkey, "--json").stdout)["jobs"]
    assert job["definition"]["name"] == "each second"
    assert [each.get_jobs()[0].name for each in CronScheduler.all(valkey.connect())] == [
        "each second"
    ]
    assert arbiter.stop("QUIT") == 0
    wait_for(lambda: not CronScheduler.all(valkey.connect()), 20, "its entry to go")


def test_jobs_that_share_a_name_are_told_apart(resqued, ticks, valkey):
    shared = """
        from harness import jobs
        from rq import cron

        cron.register(jobs.noop, "ticks", interval=1)
        cron.register(jobs.noop, "ticks", interval=2)
    """
    resqued("-n", 1, "--queue", "other", "--cron", "app", app=shared)
    wait_for(ticks, 20, "a tick")
    _, *lines = ctl(valkey).stdout.splitlines()
    keys = [line.split()[0] for line in lines]
    assert len(set(keys)) == 2
    assert all(key.startswith("harness.jobs.noop:") for key in keys)
    assert sorted(ctl(valkey, "pause", "harness.jobs.noop").stdout.splitlines()) == [
        f"{key}: paused" for key in sorted(keys)
    ]
    assert ctl(valkey, "resume", keys[0]).stdout == f"{keys[0]}: resumed\n"


def test_nothing_of_it_without_cron_and_with_a_burst(resqued, connection):
    plain = resqued("-n", 1)
    plain.wait_for_workers(1)
    assert not duties_of(plain)
    burst = resqued("-n", 1, "--burst", "--cron", "app", app=SOON)
    assert burst.exit() == 0
    assert "no periodic jobs with --burst" in burst.log()
    assert not list(connection.scan_iter("rq:resqued:cron*"))
