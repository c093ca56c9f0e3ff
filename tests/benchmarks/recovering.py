"""The time from the SIGKILL of a busy worker to the next start of its job, in another worker."""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
import time
from pathlib import Path

from rq import Queue

from harness import jobs
from harness.command import Resqued
from harness.server import Server
from harness.waiting import wait_for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--workers", type=int, default=32)
    parser.add_argument("--kills", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="resqued-recovery-") as name:
        server = Server(Path(name))
        server.start()
        words = ["-n", str(options.workers), "--on-worker-death", "requeue"]
        words += ["--max-deaths", "1000000", "--max-jobs", "1000000"]
        arbiter = Resqued(
            words, directory=Path(name), env={"RQ_REDIS_URL": server.url}, expect_errors=""
        )
        try:
            arbiter.wait_for_workers(options.workers)
            times = measure(arbiter, Queue(connection=server.connect()), options.kills)
        finally:
            if arbiter.running:
                arbiter.stop()
            server.close()
    ranked = statistics.quantiles(times, n=100)
    print(f"{len(times)} killed workers, {options.workers} at a time:", end=" ")
    print(f"the job runs again after p50 {ranked[49]:.3f} s, p99 {ranked[98]:.3f} s")


def measure(arbiter: Resqued, queue: Queue, kills: int) -> list[float]:
    """Seconds for each kill. With more than three a slot, slots back off and the job waits."""
    times = []
    for number in range(kills):
        gate = arbiter.directory / f"gate-{number}"
        reached = Path(f"{gate}.reached")
        job = queue.enqueue(jobs.wait_at, str(gate))
        wait_for(lambda reached=reached: reached.exists() and reached.read_text(), 60)
        victim = int(reached.read_text())
        began = time.monotonic()
        os.kill(victim, signal.SIGKILL)

        def started(job_id: str = job.id, victim: int = victim) -> float:
            for entry in reversed(arbiter.ledger.entries()):
                if entry.job_id == job_id and entry.word == "start" and entry.pid != victim:
                    return entry.at
            return 0.0

        times.append(wait_for(started, 60) - began)
        gate.touch()
        wait_for(lambda job=job: job.get_status() == "finished", 60)
    return times


if __name__ == "__main__":
    main()
