"""How soon workers are ready with all example plugins, and with none but the built-in ones.

The application imports the libraries of the plugins itself, so that their import is no difference.
"""

from __future__ import annotations

from collections import defaultdict

from benchmarks import instrumented
from benchmarks.bench import Bench
from benchmarks.report import at_most, ratio
from benchmarks.systems import Resqued, WithPlugins, WithPluginsAndTheirEnvironment

WORKERS = 4


def measure(bench: Bench) -> None:
    workers = min(WORKERS, bench.options.workers)
    ready: dict[str, list[float]] = defaultdict(list)
    kinds = [Resqued, WithPlugins, WithPluginsAndTheirEnvironment]
    for number in range(bench.options.boots):
        for kind in kinds if number % 2 == 0 else kinds[::-1]:
            bench.server.clear()
            with bench.system(kind, workers, app=instrumented) as system:
                ready[kind.name].append(system.seconds_to_ready)
    checks = [
        check for kind in kinds[1:] for check in ratio(ready, kind.name, Resqued.name, at_most(1.1))
    ]
    bench.table.add(f"{workers} workers come up, heavy app", "ready, s", ready, checks)
