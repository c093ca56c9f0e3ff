"""Jobs that do nothing, in this version and in 0.1: the CPU that they cost, and how many a second.

What the steward and the arbiter spend is counted in `whole tree`.
"""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks import light, older
from benchmarks.bench import Bench
from benchmarks.burst import Load, in_turn
from benchmarks.report import Target, at_least, at_most, ratio

RATES = {1: at_least(6.5), 2: at_least(5.3)}
"""To reach, by the number of workers."""

CPU: dict[str, Target | None] = {
    "worker": at_most(1 / 8),
    "tree": at_most(1 / 8),
    "server": at_most(0.45),
}


def measure(bench: Bench) -> None:
    for workers, target in RATES.items():
        loads = _loads(bench, workers)
        section = f"plain jobs, {workers} worker{'s'[: workers - 1]}"
        rates = {name: load.figures(lambda burst: burst.rate) for name, load in loads.items()}
        checks = ratio(rates, "resqued", older.NAME, target)
        bench.table.add(section, "jobs a second", rates, checks)
        for role, most in CPU.items():
            cpu = {
                name: load.figures(lambda burst, role=role: burst.cpu(role))
                for name, load in loads.items()
            }
            what = {"tree": "whole tree", "server": "server"}.get(role, role)
            checks = ratio(cpu, "resqued", older.NAME, most if workers == 1 else None)
            bench.table.add(section, f"CPU of {what}, us a job", cpu, checks)


def _loads(bench: Bench, workers: int) -> dict[str, Load]:
    """One for each system, with the bursts that have been measured."""
    options = bench.options
    with ExitStack() as stack:
        loads = [
            Load(stack.enter_context(system), bench.server.pid, light.plain, seconds=options.burst)
            for system in bench.versions(workers)
        ]
        in_turn(loads, options.rounds)
    return {load.system.name: load for load in loads}
