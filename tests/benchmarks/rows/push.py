"""From the push of a job to its start while all workers are idle, beside a preloaded pool of
`rq.SimpleWorker`; both stand ready, and are pushed to in turn."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

from rq import Queue

from benchmarks import light
from benchmarks.bench import Bench
from benchmarks.cost import cpu_by_role
from benchmarks.report import Check, Spread, at_most, ratio
from benchmarks.systems import Resqued, SimplePool, System
from harness.waiting import read_lines, wait_for

RATE = 20
"""Pushes a second to each."""


def measure(bench: Bench) -> None:
    workers, pushes = bench.options.workers, bench.options.pushes
    bench.server.clear()
    with ExitStack() as stack:
        systems = [
            stack.enter_context(bench.system(kind, workers, database, app=light))
            for database, kind in enumerate((Resqued, SimplePool))
        ]
        _push(systems, workers)  # each worker loads what its first job needs
        roles = {system.name: system.roles() for system in systems}
        before = {name: cpu_by_role(pids).total() for name, pids in roles.items()}
        began = time.monotonic()
        late = _push(systems, pushes)
        took = time.monotonic() - began
        cpu = {
            name: (cpu_by_role(pids).total() - before[name]) / took * 100
            for name, pids in roles.items()
        }
    section = f"{workers} idle workers, {RATE} pushes a second"
    for percent in (50, 98):
        figures = {name: _quantile(values, percent / 100) * 1000 for name, values in late.items()}
        checks = ratio(
            {name: [figure] for name, figure in figures.items()},
            "resqued",
            SimplePool.name,
            at_most(1),
        )
        bench.table.add(section, f"push to start, p{percent}, ms", figures, checks)
    checks = [Check("resqued", Spread.of([cpu["resqued"]]), at_most(5))]
    bench.table.add(section, "CPU of all its processes, % of a core", cpu, checks)


def _push(systems: list[System], pushes: int) -> dict[str, list[float]]:
    """How many seconds after its push each job began, by system."""
    queues = {system: Queue(system.queue, connection=system.connection) for system in systems}
    paths = {system: Path(system.directory / f"late-{time.monotonic_ns()}") for system in systems}
    began, number = time.monotonic(), 0
    for _ in range(pushes):
        for system, queue in queues.items():
            queue.enqueue(light.tell_lateness, time.monotonic(), str(paths[system]))
            number += 1
            time.sleep(max(0.0, began + number / RATE / len(systems) - time.monotonic()))
    for path in paths.values():
        wait_for(lambda path=path: len(read_lines(path)) == pushes, 60, f"{pushes} jobs to start")
    return {system.name: [float(line) for line in read_lines(paths[system])] for system in systems}


def _quantile(values: list[float], share: float) -> float:
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * share))]
