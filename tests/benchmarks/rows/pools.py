"""resqued beside `rq worker-pool` and separate `rq worker` processes: the start, a killed worker,
an idle parent, and how many jobs a second."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack

import psutil
from rq import Queue

from benchmarks import heavy
from benchmarks.bench import Bench
from benchmarks.burst import Load, in_turn
from benchmarks.cost import Idleness
from benchmarks.report import Check, Spread, at_least, at_most, ratio
from benchmarks.systems import Pool, Resqued, Separate, System

MB = 1 << 20
SYSTEMS: dict[str, type[System]] = {kind.name: kind for kind in (Resqued, Pool, Separate)}
PER_SEPARATE = 200 * MB
"""What one separate worker may take, for deciding how many the machine can bear."""

QUIET = {"words": ("-q",)}
"""The pool logs no job either."""


def measure(bench: Bench, wanted: set[str]) -> None:
    """wanted: of `start`, `kill`, `idle`, `rate`."""
    if wanted & {"start", "kill", "idle"}:
        _measure_many(bench, wanted)
    if "rate" in wanted:
        _measure_rate(bench)


def _measure_many(bench: Bench, wanted: set[str]) -> None:
    options, workers = bench.options, bench.options.workers
    figures: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for kind in _kinds(bench):
        count = workers
        if kind is Separate:
            if not wanted & {"start"}:
                continue
            count = min(count, int(psutil.virtual_memory().available * 0.8 / PER_SEPARATE))
            if count < workers:
                print(f"  separate: only {count}, for the memory; figures scaled up")
        scale = workers / count
        bench.server.clear()
        with bench.system(kind, count, **QUIET) as system:
            name = kind.name
            if "start" in wanted:
                figures["ready"][name] = [system.seconds_to_ready * scale]
                figures["idle memory"][name] = [system.memory() / MB * scale]
                system.do_jobs(20 * count)
                figures["worked memory"][name] = [system.memory() / MB * scale]
            if "idle" in wanted and kind is not Separate:
                percent = Idleness.watch(system, options.idle).percent
                figures["idle"][name] = [percent.get("arbiter", percent.get("parent", 0.0))]
                if "steward" in percent:
                    figures["idle steward"][name] = [percent["steward"]]
            if "kill" in wanted and kind is not Separate:
                kills = range(options.kills)
                figures["kill"][name] = [system.seconds_to_successor() * 1000 for _ in kills]
    table, section = bench.table, f"{workers} workers, heavy application"
    pool, separate = Pool.name, Separate.name
    if ready := figures.get("ready"):
        checks = ratio(ready, pool, "resqued", at_least(0.83))
        table.add(
            section, "ready, s", ready, checks + ratio(ready, separate, "resqued", at_least(15))
        )
        for what, key in (("idle", "idle memory"), ("after 20 jobs each", "worked memory")):
            memory = figures[key]
            checks = ratio(memory, pool, "resqued", at_least(1))
            checks += ratio(memory, separate, "resqued", at_least(10))
            table.add(section, f"memory (PSS) {what}, MB", memory, checks)
    if kill := figures.get("kill"):
        table.add(section, "SIGKILL to ready successor, ms", kill, _own(kill, 100))
    if idle := figures.get("idle"):
        table.add(section, "CPU of the idle parent, % of a core", idle, _own(idle, 0.05))
        if steward := figures.get("idle steward"):
            table.add(section, "CPU of the idle steward, % of a core", steward)


def _measure_rate(bench: Bench) -> None:
    kinds = [kind for kind in _kinds(bench) if kind is not Separate]
    for workers in (1, 2, 4):
        bench.server.clear()
        with ExitStack() as stack:
            loads = [
                Load(
                    stack.enter_context(bench.system(kind, workers, database, **QUIET)),
                    bench.server.pid,
                    lambda: Queue.prepare_data(heavy.nothing),
                    seconds=bench.options.burst,
                )
                for database, kind in enumerate(kinds)
            ]
            in_turn(loads, bench.options.rounds)
        rates = {load.system.name: load.figures(lambda burst: burst.rate) for load in loads}
        checks = ratio(rates, Pool.name, "resqued", at_most(0.33))
        what = f"{workers} worker{'s'[: workers - 1]}"
        bench.table.add("jobs that do nothing, a second", what, rates, checks)


def _kinds(bench: Bench) -> list[type[System]]:
    return [SYSTEMS[name] for name in bench.options.system or SYSTEMS]


def _own(figures: dict[str, list[float]], most: float) -> list[Check]:
    ours = figures.get("resqued")
    return [Check("resqued", Spread.of(ours), at_most(most))] if ours else []
