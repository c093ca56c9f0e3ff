"""Workers with the heavy application, beside a preloaded pool of `rq.SimpleWorker`: how soon all
are ready, and what memory they take."""

from __future__ import annotations

from collections import defaultdict

from benchmarks.bench import Bench
from benchmarks.report import at_most, ratio
from benchmarks.systems import Resqued, SimplePool

MB = 1 << 20
JOBS = 20
"""Of each worker, before memory is read again."""


def measure(bench: Bench) -> None:
    workers = bench.options.workers
    figures: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    kinds = [Resqued, SimplePool]
    for number in range(bench.options.boots):
        for kind in kinds if number % 2 == 0 else kinds[::-1]:
            bench.server.clear()
            with bench.system(kind, workers) as system:
                figures["ready, s"][kind.name].append(system.seconds_to_ready)
                memory = system.memory() / MB
                figures["memory (PSS) idle, MB"][kind.name].append(memory)
                system.do_jobs(JOBS * workers, seconds=0.05)  # long enough that all take part
                memory = system.memory() / MB
                figures[f"memory (PSS) after {JOBS} jobs each, MB"][kind.name].append(memory)
    for what, by_name in figures.items():
        target = at_most(0.9 if what.startswith("ready") else 1)
        checks = ratio(by_name, "resqued", SimplePool.name, target)
        bench.table.add(f"{workers} workers come up, heavy app", what, by_name, checks)
