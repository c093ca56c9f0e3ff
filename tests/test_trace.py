"""One recorded trace, replayed on the core in its fake kernel and on real processes.

After every step both settle, and what `--status` shows must be what the core says.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from harness.command import Resqued
from harness.waiting import WaitedTooLong, wait_for
from harness.world import QUEUES, World

RECORDED = [
    ("signal", "TTIN"),
    ("signal", "TTIN"),
    ("kill worker", 2),
    ("signal", "HUP"),
    ("signal", "TTOU"),
    ("kill fork server", None),
    ("kill worker", 1),
    ("signal", "WINCH"),
    ("signal", "TTIN"),
    ("signal", "TTIN"),
    ("kill fork server", None),
    ("signal", "HUP"),
    ("signal", "TTOU"),
    ("signal", "TTOU"),
    ("signal", "TTOU"),
    ("signal", "TTOU"),
    ("signal", "TTIN"),
    ("signal", "WINCH"),
    ("signal", "HUP"),
    ("signal", "USR1"),
    ("signal", "QUIT"),
]


def test_the_core_and_real_processes_agree(resqued):
    world = World(4)
    world.settle(0.5)
    arguments = [word for queue in QUEUES for word in ("--queue", queue)]
    arbiter = resqued("-n", 4, *arguments, expect_errors="fork server ended: signal 9")
    arbiter.wait_for_workers(4)
    for number, (what, which) in enumerate(RECORDED):
        real_pid = pick(arbiter, what, which)
        act_in_world(world, what, which)
        if world.finished is not None:
            arbiter.signal(which)
            assert arbiter.exit() == world.finished
            assert number == len(RECORDED) - 1
            return
        act(arbiter, what, which, real_pid)
        expected = by_core(world)
        try:
            wait_for(lambda expected=expected: by_status(arbiter) == expected, 20)
        except WaitedTooLong:
            step = f"after step {number}, {what} {which}"
            assert by_status(arbiter) == expected, f"{step}\n{arbiter.story()}"
    raise AssertionError("the trace does not end")


def pick(arbiter: Resqued, what: str, which: Any) -> int:
    if what == "kill worker":
        return arbiter.workers()[which].pid
    if what == "kill fork server":
        return arbiter.fork_servers()[-1].pid
    return arbiter.pid


def act(arbiter: Resqued, what: str, which: Any, pid: int) -> None:
    if what == "signal":
        arbiter.signal(which)
    else:
        os.kill(pid, signal.SIGKILL)


def act_in_world(world: World, what: str, which: Any) -> None:
    if what == "signal":
        world.signal(which)
    elif what == "kill worker":
        (worker,) = world.living(which)
        world.end_worker(worker, signal.SIGKILL)
    else:
        world.end_server(world.state.current, signal.SIGKILL)
    world.settle(40)


def by_core(world: World) -> dict[str, Any]:
    state = world.state
    workers = sorted((m for m in state.workers() if not m.trial), key=lambda m: m.slot)
    return {
        "state": str(state.mode),
        "generation": state.current,
        "difference": state.difference,
        "wished": state.target,
        "ready": world.ready(),
        "workers": [(m.slot, m.generation, list(m.queues)) for m in workers],
        "fork servers": len(world.servers),
    }


def by_status(arbiter: Resqued) -> dict[str, Any]:
    status = arbiter.status()
    seen = {key: status[key] for key in ("state", "generation", "difference", "wished", "ready")}
    workers = [(w["number"], w["generation"], w["queues"]) for w in status["workers"]]
    return {**seen, "workers": workers, "fork servers": len(arbiter.fork_servers())}
