"""The hook `job_lost` for jobs whose process has died while the worker lives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.world import World


@pytest.fixture
def world():
    world = World(1)
    world.run()
    return world


def lose(world, job, verdict="failed", times=1):
    (worker,) = world.living(1)
    record = worker.record
    worker.record = replace(
        record, lost=record.lost + times, lost_job=job, lost_verdict=verdict, done=record.done + 1
    )
    return worker


def test_each_is_told_once(world):
    lose(world, "j1")
    world.run()
    lose(world, "j2", "requeued")
    world.run()
    assert world.told_lost == [("j1", "failed"), ("j2", "requeued")]


def test_of_several_at_once_the_last_is_told_and_their_number_logged(world):
    lose(world, "j3", times=3)
    world.run()
    assert world.told_lost == [("j3", "failed")]
    assert any("lost 3 jobs at once" in line for line in world.log)


def test_one_just_before_the_end_of_its_worker_is_told(world):
    worker = lose(world, "j1", "retried")
    world.end_worker(worker, 9)
    assert world.told_lost == [("j1", "retried")]


def test_a_record_that_was_overwritten_tells_nothing(world):
    (worker,) = world.living(1)
    worker.record = replace(worker.record, lost=7, lost_job="")
    world.run()
    worker.record = replace(worker.record, lost=0)
    world.run()
    assert world.told_lost == []
