"""Run thousands of jobs in children, and print what their worker had before and after."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import psutil
from rq import Queue

from harness import jobs, processes
from harness.command import Resqued
from harness.server import Server
from harness.waiting import wait_for

_GROWTH = 2 * 2**20
"""Bytes by which the resident memory of the worker may grow."""


def look(worker: psutil.Process) -> tuple[int, int, int, int]:
    """Descriptors, threads and children of a worker that is idle, and its bytes resident."""
    wait_for(lambda: not worker.children(), 30, "the last children to be gone")
    counts = worker.num_fds(), worker.num_threads(), len(worker.children())
    return (*counts, worker.memory_info().rss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=500, help="jobs between two samples")
    options = parser.parse_args()
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="resqued-soak-") as name:
        directory = Path(name)
        server = Server(directory)
        server.start()
        queue = Queue(connection=server.connect())
        words = ["-n", "1", "-q", "--isolation", "fork"]
        env = {"RQ_REDIS_URL": server.url}
        arbiter = Resqued(words, directory=directory, env=env, expect_errors="")
        try:
            worker = arbiter.wait_for_workers(1)[1]
            began, done, first = time.monotonic(), 0, None
            print(f"{'jobs':>8}{'seconds':>9}{'descriptors':>13}{'threads':>9}{'RSS':>12}")
            while done < options.jobs:
                queue.enqueue_many([Queue.prepare_data(jobs.nothing)] * options.every)
                wait_for(lambda: not len(queue), 600, "the queue to be empty")
                done += options.every
                sample = look(worker)
                first = first or sample
                seconds = time.monotonic() - began
                print(f"{done:>8}{seconds:>9.1f}{sample[0]:>13}{sample[1]:>9}{sample[3]:>12}")
                if sample[:3] != first[:3] or sample[3] > first[3] + _GROWTH:
                    problems.append(f"after {done} jobs {sample} instead of {first}")
            if arbiter.stop() != 0:
                problems.append(f"left with {arbiter.status_code} after TERM")
            problems += arbiter.complaints()
            if left := processes.descendants(arbiter.pid):
                problems.append(f"left behind: {left}")
        finally:
            if arbiter.running:
                arbiter.stop("KILL")
            server.close()
    print(*problems or ["nothing has grown"], sep="\n")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
