"""The modules of the steward one by one, against a real server."""

from __future__ import annotations

import json
import time

import pytest

from harness import jobs
from resqued.broker.owner import ARBITERS, CLAIMS, OWNER, Owner
from resqued.scoreboard import Scoreboard
from resqued.steward import dead_workers, server_checks
from resqued.steward.dead_workers import DeadWorkers
from resqued.steward.dependents import Dependents
from resqued.steward.server_checks import Clock
from resqued.steward.strays import Strays


def test_late_dependents_are_enqueued_when_they_are_seen_twice(connection, queue):
    job = queue("later").enqueue(jobs.noop)
    queue("later").remove(job.id)
    job.set_status("ready_to_enqueue")
    connection.zadd("rq:ready:later", {job.id: time.time() + 1000})
    dependents = Dependents(connection, None)
    dependents.look()
    assert queue("later").job_ids == []
    dependents.look()
    assert queue("later").job_ids == [job.id]


@pytest.mark.parametrize(("ahead", "way"), [(8, "ahead of"), (-8, "behind")])
def test_a_skewed_clock_is_named_once(connection, monkeypatch, log_lines, ahead, way):
    real = time.time
    monkeypatch.setattr(server_checks.time, "time", lambda: real() + ahead)
    mine = Clock(connection)
    mine.compare()
    mine.compare()
    assert mine.may_judge
    (line,) = log_lines
    assert f"8 s {way} that of redis" in line


def test_a_clock_far_ahead_judges_nobody(connection, monkeypatch, log_lines):
    real = time.time
    monkeypatch.setattr(server_checks.time, "time", lambda: real() + 100)
    mine = Clock(connection)
    mine.compare()
    assert not mine.may_judge
    assert "no maintenance is done here" in log_lines[0]


def test_a_clock_that_is_right_is_not_mentioned(connection, log_lines):
    mine = Clock(connection)
    mine.compare()
    assert abs(mine.ahead) < 1
    assert log_lines == []


# Finding dead workers, with a fake clock.


class World:
    """A watcher, and an arbiter elsewhere that has taken a job."""

    def __init__(self, connection, monkeypatch):
        self.connection, self.now = connection, 1000.0
        monkeypatch.setattr(dead_workers.time, "monotonic", lambda: self.now)
        self.board = Scoreboard.create()
        self.watch = DeadWorkers(connection, "me", 60.0, Strays(self.board, "me", 90.0))
        self.owner = Owner("them", "elsewhere", "them.1.1", 7, 8)
        connection.hset(CLAIMS, str(self.owner), "job rq:queue:low")
        self.beat()

    def beat(self, **changes):
        entry = {"host": "h", "machine": "elsewhere", "every": 10.0, "beat": self.now, **changes}
        self.connection.hset(ARBITERS, "them", json.dumps(entry))

    def look_for(self, seconds, *, beating=False, step=5.0):
        """Look repeatedly; the result of the last look."""
        found = []
        until = self.now + seconds
        while self.now < until:
            self.now += step
            if beating:
                self.beat()
            found = self.watch.look()
        return found


@pytest.fixture
def world(connection, monkeypatch):
    return World(connection, monkeypatch)


def test_silence_for_long_enough_is_death(world):
    assert world.look_for(60) == []
    (left,) = world.look_for(15)
    assert (left.owner, left.job_id, left.queue) == (world.owner, "job", "low")


def test_whoever_is_heard_of_lives(world):
    assert world.look_for(600, beating=True) == []


def test_nobody_is_dead_whom_we_could_not_hear(world):
    """Every time we look again, after a sleep or an outage, silence counts anew."""
    for _ in range(10):
        assert world.look_for(40) == []
        world.now += 300


def test_a_slow_beat_is_no_silence(world):
    world.beat(every=100.0)
    assert world.look_for(390) == []
    assert len(world.look_for(20)) == 1


def test_our_own_are_left_to_their_parent_for_a_while(world):
    world.connection.hset(CLAIMS, str(Owner("me", "elsewhere", "me.1.1", 7, 8)), "j rq:queue:low")
    assert {left.owner.arbiter for left in world.look_for(9)} <= {"them"}
    world.beat()
    assert {left.owner.arbiter for left in world.look_for(10)} >= {"me"}


def test_rubbish_in_the_hashes_is_passed_over(world):
    world.connection.hset(CLAIMS, "rubbish", "rubbish")
    world.connection.hset("rq:resqued:running", mapping={"a": "b", "c:d": "[1]", "e:f": "{}"})
    world.connection.hset(ARBITERS, mapping={"x": "no json", "y": "[]"})
    assert len(world.look_for(100)) == 1


def test_the_dead_are_forgotten_when_nothing_of_theirs_is_left(world):
    world.look_for(100)
    assert world.connection.hexists(ARBITERS, "them")
    world.connection.delete(CLAIMS)
    world.look_for(5)
    assert world.connection.hexists(ARBITERS, "them")  # perhaps it has workers
    world.watch.tidy()
    world.look_for(5)
    assert not world.connection.hexists(ARBITERS, "them")


def register(connection, owner):
    key = f"rq:worker:{owner.name}"
    connection.sadd("rq:workers", key)
    connection.sadd("rq:workers:low", key)
    connection.hset(key, mapping={"queues": "low", "pid": owner.pid, OWNER: str(owner)})


def registered(connection):
    return {key.decode().removeprefix("rq:worker:") for key in connection.smembers("rq:workers")}


@pytest.fixture
def idle(world):
    """A worker of them that holds nothing, and whose name says nothing of its arbiter."""
    world.connection.delete(CLAIMS)
    register(world.connection, Owner("them", "elsewhere", "named", 9, 10))
    world.watch.tidy()
    return world


def test_idle_workers_of_the_dead_are_deregistered(idle):
    idle.look_for(60, beating=True)
    idle.watch.tidy()
    assert registered(idle.connection) == {"named"}
    idle.look_for(100)
    idle.watch.tidy()
    assert registered(idle.connection) == set()
    assert not idle.connection.smembers("rq:workers:low")
    idle.look_for(5)
    assert not idle.connection.hexists(ARBITERS, "them")


def test_idle_workers_of_an_arbiter_that_nobody_has_heard_of(idle):
    idle.connection.delete(ARBITERS)
    idle.look_for(55)
    idle.watch.tidy()
    assert registered(idle.connection) == {"named"}
    idle.look_for(15)
    idle.watch.tidy()
    assert registered(idle.connection) == set()


def test_an_entry_stays_as_long_as_there_are_workers(idle):
    idle.look_for(100)
    assert idle.connection.hexists(ARBITERS, "them")


def test_who_holds_a_job_is_deregistered_by_its_recovery(world):
    register(world.connection, world.owner)
    world.watch.tidy()
    world.look_for(100)
    world.watch.tidy()
    assert registered(world.connection) == {"them.1.1"}


def test_workers_of_other_kinds_are_left_alone(idle):
    idle.connection.sadd("rq:workers", "rq:worker:stock")
    idle.connection.hset("rq:worker:stock", "queues", "low")
    idle.look_for(100)
    idle.watch.tidy()
    assert registered(idle.connection) == {"stock"}
