"""Recycling: a worker that has reached a limit exits between two jobs and is replaced.

`--max-jobs 1000`, `--max-age 3600`, `--max-memory 512M`, `--max-threads 20`. Memory is the
worker's private memory, so what it shares with others since its fork does not count. (With
--no-preload the application counts too: it is imported after the fork.) Threads are those that
jobs have left running.

Each worker lowers its limits by up to a tenth, so that those that started together do not exit
together.
"""

from __future__ import annotations

import functools
import math
import random
import time
from pathlib import Path

from resqued import Options, Worker, hookimpl

LIMITS = "Stopping, limits and recycling"


@hookimpl(tryfirst=True)  # so that a clash of names is an error of the other plugin
def add_options(options: Options) -> None:
    options.add(
        "--max-jobs", type="count", group=LIMITS, help="Replace a worker after so many jobs."
    )
    options.add(
        "--max-memory",
        type="size",
        group=LIMITS,
        help="Replace a worker that grew by this much since its fork: 512M, 2G.",
    )
    options.add(
        "--max-threads",
        type="count",
        group=LIMITS,
        help="Replace a worker in which jobs have left more than so many threads running.",
    )
    options.add(
        "--max-age",
        type="seconds",
        group=LIMITS,
        help="Replace a worker of this age, between two jobs.",
    )


@hookimpl(trylast=True)
def should_recycle(worker: Worker) -> str | None:
    config = worker.config
    if config.max_jobs and worker.jobs >= math.ceil(config.max_jobs * part_of(worker.pid)):
        return f"{worker.jobs} jobs done"
    if config.max_age and worker.started_at is not None:
        age = time.monotonic() - worker.started_at
        if age >= config.max_age * part_of(worker.pid):
            return f"{age:.0f} s old"
    if config.max_threads and worker.threads > config.max_threads:
        return f"{worker.threads} threads left by jobs"
    if config.max_memory:
        grown = private_memory()
        if grown >= config.max_memory:
            return f"grown by {grown / 2**20:.0f} MiB"
    return None


@functools.lru_cache(1)
def part_of(pid: int | None) -> float:
    """The part of its limits that a worker uses, 0.9 to 1.0; the same at each call."""
    return random.Random(pid).uniform(0.9, 1.0)


def private_memory() -> int:
    """Bytes of this process's private memory, swapped out or not. proc_pid_smaps(5)."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    own = ("Private_Clean:", "Private_Dirty:", "Swap:")
    return sum(int(line.split()[1]) for line in lines if line.startswith(own)) * 1024
