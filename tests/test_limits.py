"""`--queue high=5/fleet`: never more at once on all hosts, nor fewer while something waits."""

from __future__ import annotations

import itertools
import os
import random
import re
import subprocess
import threading
import time
from contextlib import suppress

import psutil
import pytest
import redis
from rq.job import Job

from harness import jobs, seats
from harness.command import BIN, environment, run
from harness.waiting import PACE, scaled, wait_for
from resqued.scoreboard import Scoreboard
from resqued.shares import parse_queue
from resqued.status import arbiters as arbiters_

WIP = "rq:wip:high"


EVERY = 0.005
"""Seconds between two looks at what runs."""


class Watch(threading.Thread):
    """Looks at the queue all the time: the most jobs started, and the longest time in which fewer
    were started than may be, though some waited."""

    def __init__(self, valkey, most: int) -> None:
        super().__init__(daemon=True)
        self._client = redis.Redis(unix_socket_path=str(valkey.socket))
        self._most = most
        self._over = threading.Event()
        self.highest = 0
        self.idle = 0.0

    def run(self) -> None:
        idle_since = None
        while not self._over.wait(EVERY):
            with self._client.pipeline() as pipeline:
                pipeline.llen("rq:queue:high")
                pipeline.zcount(WIP, time.time(), "+inf")
                pipeline.hexists("rq:resqued:paused", "high")
                pipeline.llen("rq:queue:high:intermediate")
                waiting, started, paused, taken = pipeline.execute()
            self.highest = max(self.highest, started)
            if waiting and started + taken < self._most and not paused:
                idle_since = idle_since or time.monotonic()
                self.idle = max(self.idle, time.monotonic() - idle_since)
            else:
                idle_since = None

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self.join()
        self._client.close()


@pytest.fixture
def stock(valkey):
    """`stock("high")`: start a worker of RQ itself, which is ended with its horse."""
    started = []

    def start(*queues: str) -> subprocess.Popen[bytes]:
        name = f"stock-{len(started) + 1}"
        process = subprocess.Popen(
            [str(BIN / "rq"), "worker", "--url", valkey.url, "--name", name, *queues],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with suppress(psutil.NoSuchProcess):
            for each in psutil.Process(process.pid).children(recursive=True):
                each.kill()
        process.kill()
        process.wait()


def all_done(enqueued) -> bool:
    return all(job.get_status() in ("finished", "failed") for job in enqueued)


@pytest.mark.parametrize("fast_path", ["auto", "off"])
def test_as_many_as_the_limit_run_and_no_more(resqued, valkey, queue, tmp_path, fast_path):
    place = tmp_path / "seats"
    arbiters = [
        resqued("-n", 4, "--queue", "high=3/fleet", "--fast-path", fast_path) for _ in range(2)
    ]
    for arbiter in arbiters:
        arbiter.wait_for_workers(4)
    with Watch(valkey, 3) as watch:
        enqueued = [queue("high").enqueue(seats.sit, str(place), 3, 0.05) for _ in range(60)]
        wait_for(lambda: all_done(enqueued), 30, "the jobs")
    assert seats.found_none(place) == []
    assert watch.highest == 3
    assert {job.get_status() for job in enqueued} == {"finished"}


def test_who_waits_hears_at_once_that_one_has_ended_elsewhere(resqued, queue, gate, connection):
    first = resqued("-n", 1, "--queue", "other", "--queue", "high=1/fleet")
    first.wait_for_workers(1)
    holding = gate()
    held = queue("high").enqueue(jobs.wait_at, str(holding))
    holding.wait_until_reached()
    second = resqued("-n", 3, "--queue", "high=1/fleet")
    second.wait_for_workers(3)
    steward = second.wait_for_steward()
    second.signal("STOP", pid=steward.pid)  # it would wake them too
    blocking = gate()
    queue("other").enqueue(jobs.wait_at, str(blocking))  # so that the first one takes this
    waits = queue("high").enqueue(jobs.nothing)
    try:
        assert waits.get_status() == "queued"
        holding.open()
        wait_for(lambda: waits.get_status() == "finished", 5, "the waiting job")
    finally:
        second.signal("CONT", pid=steward.pid)
        blocking.open()
    took = Job.fetch(waits.id, connection).started_at - Job.fetch(held.id, connection).ended_at
    assert took.total_seconds() < 0.1 * PACE.slower(fresh=60.0)


def test_other_queues_go_on_meanwhile(resqued, queue, gate):
    arbiter = resqued("-n", 2, "--queue", "high=1/fleet", "--queue", "low")
    arbiter.wait_for_workers(2)
    holding = gate()
    queue("high").enqueue(jobs.wait_at, str(holding))
    holding.wait_until_reached()
    waits = queue("high").enqueue(jobs.nothing)
    for _ in range(5):
        low = queue("low").enqueue(jobs.nothing)
        wait_for(lambda low=low: low.get_status() == "finished", 5, "the job of low")
    assert waits.get_status() == "queued"
    shown = "high +1 waiting .*  at its limit 1/1\n"
    wait_for(lambda: re.search(shown, arbiter.control("status").stdout), 10, "it in the status")
    holding.open()
    wait_for(lambda: waits.get_status() == "finished", 5, "the waiting job")


def test_a_burst_waits_for_its_turn(resqued, queue, gate):
    holder = resqued("-n", 1, "--queue", "high=1/fleet")
    holder.wait_for_workers(1)
    holding = gate()
    queue("high").enqueue(jobs.wait_at, str(holding))
    holding.wait_until_reached()
    waits = queue("high").enqueue(jobs.nothing)
    burst = resqued("-n", 2, "--queue", "high=1/fleet", "--burst")
    burst.wait_for_workers(2)
    holding.open()
    assert burst.exit(20) == 0
    assert waits.get_status() == "finished"


def test_an_entry_that_has_expired_does_not_count_and_one_that_expires_is_noticed(
    resqued, queue, connection
):
    connection.zadd(WIP, {"gone:1": time.time() - 5, "soon:1": time.time() + scaled(3)})
    arbiter = resqued("-n", 2, "--queue", "high=1/fleet", "--maintenance-interval", 3600)
    arbiter.wait_for_workers(2)
    waits = queue("high").enqueue(jobs.nothing)
    wait_for(lambda: waits.get_status() == "finished", 10, "the job")
    left = connection.zscore(WIP, "soon:1")
    assert left is None or left <= time.time()


def test_keys_of_another_type_are_no_limit(resqued, queue, connection):
    connection.set("rq:queue:high:intermediate", "x")
    errors = "set-aside|no list|kept as|WRONGTYPE"
    arbiter = resqued("-n", 1, "--queue", "high=1/fleet", expect_errors=errors)
    arbiter.wait_for_workers(1)
    job = queue("high").enqueue(jobs.nothing)
    wait_for(lambda: job.get_status() == "finished", 10, "the job")


def test_three_arbiters_a_stock_worker_kills_and_pauses(
    resqued, valkey, queue, connection, stock, tmp_path
):
    place, most = tmp_path / "seats", 5
    arbiters = [
        resqued(
            *("-n", 4, "--queue", "high=5/fleet", "--on-worker-death", "requeue"),
            *("--max-deaths", 100),
            expect_errors="died|killed|SIGKILL|signal 9",
        )
        for _ in range(3)
    ]
    for arbiter in arbiters:
        arbiter.wait_for_workers(4)
    stock("high")
    wait_for(lambda: connection.exists("rq:worker:stock-1"), 20, "the stock worker")
    for arbiter in arbiters:  # a stock worker that comes later may be one too many at first
        arbiter.wait_for_steward()
        wait_for(lambda arbiter=arbiter: "stock-1" in str(told(arbiter)), 10, "its being known")
    rng, enqueued = random.Random(7), []
    with Watch(valkey, most) as watch:
        for turn in itertools.count():
            enqueued += [
                queue("high").enqueue(seats.sit, str(place), most, rng.choice([0.0, 0.02, 0.2]))
                for _ in range(20)
            ]
            if turn == 12:
                break
            arbiter = rng.choice(arbiters)
            match turn % 4:
                case 0:
                    with suppress(psutil.NoSuchProcess):
                        rng.choice([*arbiter.workers().values()]).kill()
                case 1:
                    arbiter.control("queue", "pause", "high")
                    arbiter.control("queue", "resume", "high")
                case 2:
                    arbiter.wait_for_steward().kill()
                case 3:
                    victim = rng.choice([*arbiter.workers().values()])
                    with suppress(psutil.NoSuchProcess):
                        victim.suspend()
                        time.sleep(0.2)
                        victim.resume()
        wait_for(lambda: all_done(enqueued), 120, "the jobs")
    assert seats.found_none(place) == []
    assert watch.highest <= most
    assert watch.idle < 2 * PACE.slower(fresh=60.0), "none ran though some waited"


def test_an_arbiter_that_is_killed_with_all_its_processes_gives_back_its_part(
    resqued, valkey, queue, connection, stock, gate, tmp_path
):
    place, most = tmp_path / "seats", 5
    words = ("-n", 3, "--queue", "high=5/fleet", "--dead-after", 2)
    arbiters = [resqued(*words, expect_errors="dead") for _ in range(3)]
    for arbiter in arbiters:
        arbiter.wait_for_workers(3)
    wait_for(lambda: connection.hlen("rq:resqued:arbiters") == 3, 10, "their first heartbeats")
    stock("high")
    wait_for(lambda: connection.exists("rq:worker:stock-1"), 20, "the stock worker")
    for arbiter in arbiters:
        wait_for(lambda arbiter=arbiter: "stock-1" in str(told(arbiter)), 10, "its being known")
    doors = [gate() for _ in range(most)]
    with Watch(valkey, most) as watch:
        held = [queue("high").enqueue(seats.sit_until, str(place), most, str(d)) for d in doors]
        for door in doors:
            door.wait_until_reached()
        victim = max(arbiters, key=lambda each: len(running(each)))
        lost = len(running(victim))
        assert lost >= 2, "nine workers and a stock one have five jobs"
        waits = [queue("high").enqueue(seats.sit, str(place), most, 0.1) for _ in range(20)]
        victim.destroy()
        wait_for(
            lambda: seats.taken(place, most) == most,
            30,
            "five at once again, in place of those that were killed",
        )
        for door in doors:
            door.open()
        wait_for(lambda: all_done([*held, *waits]), 60, "the jobs")
        again = [gate() for _ in range(most)]
        held += [queue("high").enqueue(seats.sit_until, str(place), most, str(d)) for d in again]
        for door in again:
            door.wait_until_reached(20)
            door.open()
        wait_for(lambda: all_done(held), 30, "the last jobs")
    assert seats.found_none(place) == []
    assert watch.highest <= most
    assert {job.get_status() for job in [*held, *waits]} == {"finished"}


def running(arbiter) -> list[int]:
    """The numbers of its workers that have a job in hand."""
    return [each["number"] for each in arbiter.status()["workers"] if each["state"] == "busy"]


def told(arbiter) -> dict[str, object]:
    """What the arbiter's steward tells its workers."""
    for fd in arbiters_.scoreboards(arbiter.pid):
        board = Scoreboard(os.dup(fd), writable=False)
        try:
            return board.paused.read()
        finally:
            board.close()
    return {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("high=0/fleet", "pause it: resquedctl queue pause high"),
        ("high=x/fleet", "is no number of jobs; write 20/fleet"),
        ("high=10%/fleet", "is no number of jobs; write 20/fleet"),
        ("high=5/flet", "20/fleet is at most 20 jobs at once"),
        ("high=200%/5/fleet", "between 0% and 100%"),
        ("*=5/fleet", "a limit is of one"),
        ("high:5/fleet", "write 'high=5/fleet'"),
    ],
)
def test_a_wrong_limit_names_the_remedy(text, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse_queue(text)


def test_a_check_says_what_a_limit_means(valkey, tmp_path):
    words = ("--check", "--redis", valkey.url, "-n", 4, "--queue", "a", "--queue", "b=50%/5/fleet")
    code, out, _ = run(*words, cwd=tmp_path)
    assert code == 0
    assert "b=50%/5/fleet: 2 of 4; at most 5 of its jobs at once on all hosts\n" in out


@pytest.mark.parametrize("text", ["high=5/fleet", "high=10%/5/fleet", "high=3/5/fleet"])
def test_a_limit_is_written_as_it_is_read(text):
    read = parse_queue(text)
    assert (str(read), read.limit) == (text, 5)
    assert type(read).from_plain(read.as_plain()) == read
