"""Measure and print: each figure for each system in one run, with their ratios."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import psutil

from benchmarks.systems import Pool, Resqued, Separate, System
from harness.server import Server

MB = 1 << 20
SYSTEMS: dict[str, type[System]] = {kind.name: kind for kind in (Resqued, Pool, Separate)}
PER_SEPARATE = 200 * MB
"""What one separate worker may take, for deciding how many the machine can bear."""


class Table:
    """Rows of figures by system; a row says which way is better by its ratios alone."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, dict[str, float], str]] = []

    def add(self, what: str, unit: str, figures: dict[str, float], target: str = "") -> None:
        self._rows.append((what, unit, figures, target))
        print(f"  {what}: {figures}", file=sys.stderr, flush=True)

    def show(self, systems: list[str]) -> None:
        head = f"{'':<40}" + "".join(f"{name:>14}" for name in systems)
        print(f"\n{head}  ratio to resqued; to reach\n{'-' * (len(head) + 30)}")
        for what, unit, figures, target in self._rows:
            cells = "".join(_cell(figures.get(name)) for name in systems)
            ours = figures.get("resqued") or float("nan")
            ratios = "  ".join(
                f"{name} {figures[name] / ours:.2f}x" for name in systems[1:] if name in figures
            )
            print(f"{what + ', ' + unit:<40}{cells}  {ratios}; {target}".rstrip("; "))


def _cell(figure: float | None) -> str:
    return f"{'-' if figure is None else f'{figure:.4g}':>14}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--workers", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=3000, help="no-op jobs per measurement")
    parser.add_argument("--kills", type=int, default=10, help="workers killed, median taken")
    parser.add_argument("--idle", type=float, default=30, help="seconds to watch an idle parent")
    parser.add_argument("--only", choices=["start", "rate", "kill", "idle"], action="append")
    parser.add_argument("--system", choices=SYSTEMS, action="append")
    options = parser.parse_args()
    options.kinds = [SYSTEMS[name] for name in options.system or SYSTEMS]
    wanted = options.only or ["start", "kill", "idle", "rate"]
    table = Table()
    with tempfile.TemporaryDirectory(prefix="resqued-bench-") as name:
        directory = Path(name)
        server = Server(directory)
        server.start()
        # fsync after every command would measure the disk
        client = server.connect()
        client.config_set("appendfsync", "no")
        try:
            if {"start", "kill", "idle"} & set(wanted):
                measure_many(server, directory, options, wanted, table)
            if "rate" in wanted:
                measure_rate(server, directory, options, table)
        finally:
            server.close()
    print(f"Python {sys.version.split()[0]}, {psutil.cpu_count()} cores, {options.workers} workers")
    table.show(list(SYSTEMS))


def measure_many(
    server: Server, directory: Path, options: argparse.Namespace, wanted: list[str], table: Table
) -> None:
    ready: dict[str, float] = {}
    idle: dict[str, float] = {}
    worked: dict[str, float] = {}
    successor: dict[str, float] = {}
    parent: dict[str, float] = {}
    for kind in options.kinds:
        count = options.workers
        if kind is Separate:
            count = min(count, int(psutil.virtual_memory().available * 0.8 / PER_SEPARATE))
            if count < options.workers:
                print(f"  separate: only {count}, for the memory; figures scaled up")
        scale = options.workers / count
        server.clear()
        with kind(count, server.url, directory) as system:
            ready[kind.name] = system.seconds_to_ready * scale
            if "start" in wanted:
                idle[kind.name] = system.memory() / MB * scale
                system.do_jobs(1000)
                worked[kind.name] = system.memory() / MB * scale
            if "idle" in wanted and kind is not Separate:
                parent[kind.name] = system.cpu_of_the_parent(options.idle) * 100
            if "kill" in wanted and kind is not Separate:
                successor[kind.name] = median_successor(system, options.kills) * 1000
    table.add(f"{options.workers} workers ready", "s", ready, "pool 0.83x, rq worker 15x")
    if idle:
        table.add("memory (PSS) idle", "MB", idle, "pool 1x, rq worker 10x")
        table.add("memory (PSS) after 1,000 jobs", "MB", worked, "pool 1x, rq worker 10x")
    if successor:
        table.add("SIGKILL to ready successor, median", "ms", successor, "under 100 ms")
    if parent:
        table.add("parent's CPU while idle", "% of a core", parent, "under 0.2 %")


def median_successor(system: System, kills: int) -> float:
    return statistics.median(system.seconds_to_successor() for _ in range(kills))


def measure_rate(
    server: Server, directory: Path, options: argparse.Namespace, table: Table
) -> None:
    for workers in (1, 2, 4):
        rate: dict[str, float] = {}
        for kind in [kind for kind in options.kinds if kind is not Separate]:
            server.clear()
            with kind(workers, server.url, directory) as system:
                jobs = options.jobs if kind is Resqued else options.jobs // 5
                system.do_jobs(50)  # warm
                rate[kind.name] = system.jobs_a_second(jobs)
        table.add(f"no-op jobs, {workers} workers", "a second", rate, "pool 0.33x")


if __name__ == "__main__":
    main()
