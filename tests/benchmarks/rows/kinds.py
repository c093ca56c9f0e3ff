"""Each kind of job, in this version and in 0.1: round trips, and CPU of the worker."""

from __future__ import annotations

import time
from contextlib import ExitStack

from benchmarks import light, older
from benchmarks.bench import Bench
from benchmarks.burst import Load, in_turn
from benchmarks.cost import Meter
from benchmarks.report import Check, Spread, at_most, ratio
from benchmarks.systems import System

KINDS = {
    "success": (light.plain, 1),
    "failure": (light.failure, 1),
    "retry at once": (light.retry, 2),
    "retry later": (light.retry_later, 1),
    "repeat": (light.repeat, 2),
    "callback": (light.callback, 1),
}
"""What is enqueued, and how often it is executed; figures are of an execution."""

ONE = 1.04
"""One round trip, and what cannot be told apart from the steward's."""

CALM = 2.0
"""Seconds, at most, in which it is watched how often the server reads while all are idle."""


def measure(bench: Bench) -> None:
    rounds, jobs = max(1, bench.options.rounds // 2), bench.options.jobs
    seconds = bench.options.burst
    trips: dict[str, dict[str, list[float]]] = {}
    cpu: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as stack:
        systems = [stack.enter_context(system) for system in bench.versions(1)]
        background = _background(bench, systems[0])
        for kind, (make, executions) in KINDS.items():
            loads = [
                Load(system, bench.server.pid, make, executions=executions, seconds=seconds)
                for system in systems
            ]
            in_turn(loads, rounds)
            for load in loads:
                counted = [load.round_trips(background, jobs) for _ in range(min(rounds, 3))]
                trips.setdefault(kind, {})[load.system.name] = counted
            cpu[kind] = {
                load.system.name: load.figures(lambda burst: burst.cpu("worker")) for load in loads
            }
    for kind, figures in trips.items():
        checks = [Check("resqued", Spread.of(figures["resqued"]), at_most(ONE))]
        bench.table.add("round trips of an execution", kind, figures, checks)
    for kind, figures in cpu.items():
        target = at_most(0.5) if kind == "failure" else None
        checks = ratio(figures, "resqued", older.NAME, target)
        bench.table.add("CPU of the worker, us an execution", kind, figures, checks)


def _background(bench: Bench, system: System) -> float:
    """Reads a second."""
    meter = Meter(system, bench.server.pid, bench.server.connect())
    time.sleep(min(CALM, bench.options.idle))
    spent = meter.read()
    return spent.reads / spent.seconds
