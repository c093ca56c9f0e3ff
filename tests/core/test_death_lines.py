"""A death is one WARNING, with its cause and what became of the job."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.world import World
from resqued.core import death_lines
from resqued.core.handover import dump, restore
from resqued.death import Death
from resqued.messages import Recovered, WorkerExited
from resqued.scoreboard import Phase


@pytest.fixture
def dying():
    """A world in which a worker with a job was killed, and nothing was recovered yet."""
    world = World(1)
    world.run()
    (worker,) = world.living(1)
    worker.record = replace(worker.record, phase=Phase.RUNNING, job_id="j1", function="app.f")
    world.turn()
    death = Death(1, 9, {}, worker.record, ("a",))
    del world.workers[worker.pid]
    world.hear(worker.generation, WorkerExited(worker.serial, worker.pid, death))
    return world


def _warnings(world):
    return [line for line in world.log if line.startswith("WARNING")]


def test_it_waits_for_the_recovery_and_says_what_became_of_the_job(dying):
    assert _warnings(dying) == []
    (recovery,) = dying.state.recoveries.values()
    dying.hear(1, Recovered(1, recovery.name, "requeued"))
    (line,) = _warnings(dying)
    assert "ended: signal SIGKILL, held job=j1 in phase running" in line
    assert line.endswith("; its job is back in its queue")


def test_it_does_not_wait_long(dying):
    dying.advance(death_lines.PATIENCE)
    dying.turn()
    (line,) = _warnings(dying)
    assert "held job=j1" in line
    dying.run()
    assert len(_warnings(dying)) == 1


def test_it_survives_a_re_exec(dying):
    (recovery,) = dying.state.recoveries.values()
    state = restore(dump(dying.state))
    assert state == dying.state
    assert state.recoveries[recovery.name].line.job == "j1"


def test_one_without_a_job_is_logged_at_once():
    world = World(1)
    world.run()
    (worker,) = world.living(1)
    world.end_worker(worker, 11)
    (line,) = _warnings(world)
    assert "ended: signal SIGSEGV" in line
