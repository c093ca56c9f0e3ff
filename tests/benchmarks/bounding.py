"""Measure the boundary between two jobs in a process like a worker's, row by row and as a whole."""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

from resqued.worker.boundary import Boundary
from resqued.worker.signals import Signals


def microseconds(call: Callable[[], object], jobs: int, rounds: int) -> tuple[float, float]:
    """Of one call: the fastest round, which others on the machine disturb least, and the median."""
    call()
    figures = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(jobs):
            call()
        figures.append((time.perf_counter() - began) / jobs * 1e6)
    return min(figures), statistics.median(figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=20, help="in a round")
    parser.add_argument("--rounds", type=int, default=1000)
    options = parser.parse_args()
    signals = Signals()
    signals.install()
    boundary = Boundary(signals)

    numbers = itertools.count()

    def before() -> None:
        boundary.enter()
        boundary.put(RQ_WORKER_ID="worker", RQ_JOB_ID=f"job-{next(numbers)}")
        boundary.run(boundary.importing, int)

    def after() -> None:
        boundary.regain()
        boundary.leave("job")

    print(f"{'of a job that changes nothing':<36}{'best':>11}{'median':>11}")
    for name, call in {"before and in it": before, "after it": after}.items():
        best, median = microseconds(call, options.jobs, options.rounds)
        print(f"{name:<36}{best:>8.2f} us{median:>8.2f} us")
    for name, call in boundary.parts().items():
        best, median = microseconds(call, options.jobs, options.rounds)
        print(f"  {name:<34}{best:>8.2f} us{median:>8.2f} us")


if __name__ == "__main__":
    main()
