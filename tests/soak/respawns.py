"""Replace thousands of workers, and print what arbiter and fork server had before and after."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from harness.command import Resqued
from harness.server import Server
from soak.respawning import Look, Mill, Sample

KIB = 1024
GROWTH = 1024 * KIB
"""Bytes by which the resident memory of a process may grow."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--workers", type=int, default=4)
    parser.add_argument("--respawns", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=500, help="respawns between two samples")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="resqued-soak-") as name:
        directory = Path(name)
        server = Server(directory)
        server.start()
        client = server.connect()
        client.config_set("appendfsync", "no")  # else the disk decides how long it takes
        words = ["-n", str(options.workers), "--max-jobs", "1"]
        arbiter = Resqued(
            words, directory=directory, env={"RQ_REDIS_URL": server.url}, expect_errors=""
        )
        try:
            problems = soak(Mill(arbiter, options.workers, client), options.respawns, options.every)
            if arbiter.stop() != 0:
                problems.append(f"left with {arbiter.status_code} after TERM")
            problems += arbiter.complaints()
        finally:
            if arbiter.running:
                arbiter.stop("KILL")
            server.close()
    print(*problems or ["nothing has grown"], sep="\n")
    sys.exit(1 if problems else 0)


def soak(mill: Mill, respawns: int, every: int) -> list[str]:
    """Do it, print it; all that is not as it was."""
    samples: list[Sample] = []
    began = time.monotonic()
    head = f"{'respawns':>10}{'seconds':>9}{'arbiter RSS, PSS':>22}{'fork server RSS, PSS':>24}"
    print(f"{head}\n{'-' * len(head)}")

    def tell() -> None:
        samples.append(mill.look())
        show(samples[-1], time.monotonic() - began)

    tell()
    while mill.respawns < respawns:
        mill.grind(min(every, respawns - mill.respawns))
        tell()
    mill.quiet()
    tell()
    end = samples[-1]
    seconds = time.monotonic() - began
    mill.close()
    print(
        f"\n{end.respawns} respawns, {mill.killed} of them after a SIGKILL, in {seconds:.0f} s:"
        f" {end.respawns / seconds:.1f} a second; {mill.workers} workers,"
        f" Python {sys.version.split()[0]}, {psutil.cpu_count()} cores\n"
    )
    return [
        *compare("arbiter", samples, lambda sample: sample.arbiter),
        *compare("fork server", samples, lambda sample: sample.fork_server),
    ]


def show(sample: Sample, seconds: float) -> None:
    cells = [
        f"{look.resident / KIB:,.0f}, {look.proportional / KIB:,.0f} KiB"
        for look in (sample.arbiter, sample.fork_server)
    ]
    print(f"{sample.respawns:>10}{seconds:>9.0f}{cells[0]:>22}{cells[1]:>24}", flush=True)


def compare(who: str, samples: list[Sample], of: Callable[[Sample], Look]) -> list[str]:
    """Print first, last and slope of each figure; those that are not as they were."""
    first, last = of(samples[0]), of(samples[-1])
    problems = []
    for name, before in first.counts.items():
        after = last.counts[name]
        print(f"{who + ', ' + name:<30}{before:>12}{after:>12}")
        if before != after:
            problems.append(f"{who}: {name} {before} at first, {after} in the end")
    for name in ("resident", "proportional"):
        before, after = getattr(first, name), getattr(last, name)
        times = [sample.respawns for sample in samples]
        sizes = [getattr(of(sample), name) for sample in samples]
        slope = statistics.linear_regression(times, sizes).slope * 1000 / KIB
        row = f"{who + ', ' + name + ', KiB':<30}{before // KIB:>12,}{after // KIB:>12,}"
        print(f"{row}{slope:>+10.1f} KiB per 1,000")
        if name == "resident" and after - before > GROWTH:
            problems.append(f"{who}: {name} grew by {(after - before) // KIB:,} KiB")
    return problems


if __name__ == "__main__":
    main()
