"""A worker that the kernel killed for want of memory: in the exit, the log, the job's failure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.world import World
from resqued.core import worker_control
from resqued.core.actions import TellExited
from resqued.core.step import Step
from resqued.death import Death
from resqued.messages import Recover, WorkerExited
from resqued.scoreboard import Phase


@pytest.mark.parametrize("killed", [False, True], ids=["by the kernel", "by resqued"])
def test_it_says_so_unless_resqued_has_killed_it(killed):
    world = World(1)
    world.run()
    (worker,) = world.living(1)
    worker.record = replace(worker.record, phase=Phase.RUNNING, job_id="j1")
    world.turn()
    handle = world.state.slot(1).worker
    if killed:
        worker_control.kill(Step(world.state, world.now), handle, "it was stuck")
    told = []
    world._TellExited = told.append
    death = Death(1, 9, {}, worker.record, ("a",), out_of_memory=True)
    del world.workers[worker.pid]
    world.hear(worker.generation, WorkerExited(worker.serial, worker.pid, death))
    (action,) = told
    assert isinstance(action, TellExited)
    assert action.exit.out_of_memory is not killed
    (recovery,) = world.state.recoveries.values()
    sent = Recover(recovery.death).death
    assert ("out of memory" in sent.reason) is not killed
    assert ("killed it: out of memory" in recovery.line.text) is not killed
    assert recovery.line.out_of_memory is not killed
