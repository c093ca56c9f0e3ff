"""Measure and print: each figure for each system in one run, with their ratios.

Without --only, --all or --peers the rows are start, kill, idle and rate. Those of plain, kinds and
payload are against release 0.1, which is installed from the archive beside this when it is first
asked for; --peers installs other job queues. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.cost import Others
from benchmarks.report import Table
from benchmarks.rows import (
    boot,
    facts,
    isolation,
    kinds,
    payload,
    peers,
    plain,
    plugins,
    pools,
    push,
    scraped,
    thousand,
)
from harness.server import Server, free_port

POOLS = {
    "start": "workers ready and their memory, beside worker-pool and separate `rq worker`s",
    "kill": "from SIGKILL of a worker to its successor",
    "idle": "CPU of the idle parent",
    "rate": "jobs a second beside worker-pool",
}
"""Rows of one module that share what they have started."""

ROWS: dict[str, tuple[Callable[[Bench], None], str]] = {
    "plain": (plain.measure, "a plain job against 0.1: CPU, round trips, jobs a second"),
    "kinds": (kinds.measure, "failure, retry, repeat, callback against 0.1: round trips, CPU"),
    "payload": (payload.measure, "an argument of 100 kB against 0.1"),
    "isolation": (isolation.measure, "a child a job against rq.Worker"),
    "push": (push.measure, "push to start with idle workers against a SimpleWorker pool"),
    "boot": (boot.measure, "workers ready and their memory against a SimpleWorker pool"),
    "plugins": (plugins.measure, "workers ready with all example plugins, and with none"),
    "thousand": (thousand.measure, "1,000 workers: ready, idle, --status"),
    "scraped": (
        scraped.measure,
        "1,000 workers, 200 queues: a scraped arbiter, resquedctl top",
    ),
    "facts": (facts.measure, "the steward's looks at 200 queues: CPU here and in Redis"),
    "peers": (peers.measure, "jobs a second beside other job queues"),
}
NAMES = [*POOLS, *ROWS]


def main() -> None:
    options = _options()
    wanted = set(options.only)
    if options.list:
        for name, what in {**POOLS, **{row: said for row, (_, said) in ROWS.items()}}.items():
            print(f"{name:<12}{what}")
        return
    table, others = Table(), Others()
    with tempfile.TemporaryDirectory(prefix="resqued-bench-") as name:
        crowded = ("--tcp-backlog", "4096", "--maxclients", "10000")
        port = str(free_port())
        server = Server(Path(name), "--port", port, "--bind", "127.0.0.1", *crowded)
        server.start()
        server.connect().config_set("appendonly", "no")  # else the disk is measured
        bench = Bench(server, Path(name), options, table)
        try:
            if wanted & set(POOLS):
                pools.measure(bench, wanted & set(POOLS))
            for row, (measure, _) in ROWS.items():
                if row in wanted:
                    measure(bench)
        finally:
            server.close()
    print(
        f"Python {sys.version.split()[0]}, {os.cpu_count()} cores; "
        f"others used {others.percent():.0f} % of them meanwhile"
    )
    table.show()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=_names, action="extend", metavar="NAME[,NAME]")
    parser.add_argument("--all", action="store_true", help="all rows but peers")
    parser.add_argument("--peers", action="store_true", help="also the row of that name")
    parser.add_argument("--list", action="store_true", help="the names of the rows")
    parser.add_argument("-n", "--workers", type=int, default=50, help="where there are many")
    parser.add_argument("--crowd", type=int, default=1000, help="workers of the row thousand")
    parser.add_argument("--rounds", type=int, default=10, help="bursts of each system in turn")
    parser.add_argument("--burst", type=float, default=0.4, help="seconds of one burst")
    parser.add_argument("--jobs", type=int, default=100, help="for counting round trips")
    parser.add_argument("--boots", type=int, default=3, help="of each system, in turn")
    parser.add_argument("--pushes", type=int, default=200, help="to each system")
    parser.add_argument("--kills", type=int, default=10, help="workers killed")
    parser.add_argument("--idle", type=float, default=30, help="seconds to watch what is idle")
    parser.add_argument("--system", choices=pools.SYSTEMS, action="append", help="of start to rate")
    parser.add_argument("--alone", action="store_true", help="without 0.1, which needs git")
    parser.add_argument(
        "--isolated-by",
        default="--isolation fork",
        metavar="WORDS",
        help="what makes resqued fork a child a job; '-w rq.Worker' tries the row without it",
    )
    parser.add_argument("--app", choices=isolation.APPS, help="of isolation; default: both")
    parser.add_argument("--forks", type=int, default=300, help="bare ones, beside isolation")
    parser.add_argument("--peer", choices=peers.NAMES, action="append", help="only these")
    options = parser.parse_args()
    chosen = options.only or []
    if options.all:
        chosen = [name for name in NAMES if name != "peers"]
    if options.peers:
        chosen = [*chosen, "peers"]
    options.only = chosen or list(POOLS)
    return options


def _names(words: str) -> list[str]:
    names = words.split(",")
    for name in names:
        if name not in NAMES:
            raise argparse.ArgumentTypeError(f"no row {name!r}; there are {', '.join(NAMES)}")
    return names


if __name__ == "__main__":
    main()
