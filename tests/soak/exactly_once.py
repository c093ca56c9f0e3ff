"""Thousands of jobs while requests and replies are lost and workers ended; each exactly once?"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from harness.command import Resqued
from harness.proxy import Proxy
from harness.server import Server
from soak.losing import QUEUES, Ordeal

WORDS = ("--on-worker-death", "requeue", "--max-interruptions", "1000", "--loop-timeout", "30")
"""Ended workers put their jobs back."""

EXPECTED = "redis .*(does not answer|refuses)|told to fail|Traceback|failed job|the steward cannot"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--loss", type=float, default=0.05, help="share that is lost")
    parser.add_argument("-n", "--workers", type=int, default=4)
    parser.add_argument("--every", type=int, default=100, help="jobs between two strikes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--isolation", choices=("worker", "fork"), default="worker")
    parser.add_argument("--fast-path", choices=("auto", "off"), default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="resqued-once-") as name:
        directory = Path(name)
        server = Server(directory)
        server.start()
        client = server.connect()
        client.config_set("appendfsync", "no")  # else the disk decides how long it takes
        proxy = Proxy(server.socket, directory / "proxy.sock")
        queues = [word for queue in QUEUES for word in ("--queue", queue)]
        words = ["-n", str(options.workers), *queues, "--redis", proxy.url, *WORDS]
        words += ["--isolation", options.isolation, "--fast-path", options.fast_path]
        arbiter = Resqued(words, directory=directory, env={}, expect_errors=EXPECTED)
        try:
            arbiter.wait_for_workers(options.workers)
            told = Ordeal(arbiter, proxy, client, options.jobs, options.seed).endure(
                options.loss, options.every
            )
            if arbiter.stop(timeout=30) != 0:
                told.problems.append(f"left with {arbiter.status_code} after TERM")
            told.problems += arbiter.complaints()
        finally:
            if arbiter.running:
                arbiter.stop("KILL")
            proxy.close()
            server.close()
        if told.problems:
            Path("exactly_once.log").write_text(arbiter.log())
    strikes = ", ".join(f"{count} {name}" for name, count in sorted(told.strikes.items()))
    print(
        f"{told.jobs} jobs in {told.seconds:.0f} s ({told.jobs / told.seconds:.0f} a second),"
        f" {options.workers} workers; {told.losses} requests or replies lost; {strikes}\n"
        f"they are in: {dict(told.places)}; begun again after a worker was killed:"
        f" {told.begun_again}"
    )
    print(*told.problems[:20] or ["each has exactly one outcome"], sep="\n")
    sys.exit(1 if told.problems else 0)


if __name__ == "__main__":
    main()
