"""The arbiter of a thousand workers and 200 queues with the plugin http: idle, and scraped by
Prometheus every five seconds."""

from __future__ import annotations

import contextlib
import threading
import urllib.request
from collections.abc import Iterator

import redis
from rq import Queue

from benchmarks.bench import Bench
from benchmarks.cost import Idleness
from benchmarks.report import Check, Spread, at_most
from benchmarks.systems import Resqued
from harness.server import free_port
from harness.waiting import wait_for

QUEUES = 200
EVERY = 5.0
"""Seconds between two scrapes."""

MOST = 0.5
"""Percent of a core, at most, of a scraped arbiter."""


def measure(bench: Bench) -> None:
    workers, names = bench.options.crowd, [f"queue-{number}" for number in range(QUEUES)]
    port = free_port()
    words = [word for name in names for word in ("--queue", name)]
    words += ["--http", f"127.0.0.1:{port}"]
    bench.server.clear()
    with bench.system(Resqued, workers, words=words) as system:
        with redis.Redis.from_url(system.url) as connection:
            jobs = [
                Queue(name, connection=connection).enqueue("operator.abs", -1) for name in names
            ]
            wait_for(lambda: all(job.get_status() == "finished" for job in jobs), 60)
        idle = Idleness.watch(system, bench.options.idle).percent["arbiter"]
        with _scraped(f"http://127.0.0.1:{port}/metrics"):
            scraped = Idleness.watch(system, bench.options.idle).percent["arbiter"]
    section = f"{workers} workers, {QUEUES} queues, --http"
    for what, figure in (("not scraped", idle), (f"scraped every {EVERY:g} s", scraped)):
        checks = [Check("", Spread.of([figure]), at_most(MOST))]
        row = f"CPU of the arbiter {what}, % of a core"
        bench.table.add(section, row, {"resqued": [figure]}, checks)


@contextlib.contextmanager
def _scraped(url: str) -> Iterator[None]:
    over = threading.Event()

    def scrape() -> None:
        while not over.is_set():
            with urllib.request.urlopen(url, timeout=30) as answer:
                answer.read()
            over.wait(EVERY)

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
