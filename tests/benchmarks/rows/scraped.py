"""The arbiter of a thousand workers and 200 queues with the plugin http: idle, and scraped by
Prometheus every five seconds; then `resquedctl top` on a terminal."""

from __future__ import annotations

import contextlib
import os
import subprocess
import termios
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import redis
from rq import Queue

from benchmarks.bench import Bench
from benchmarks.cost import Idleness, cpu_of
from benchmarks.report import Check, Spread, at_most
from benchmarks.systems import Resqued
from harness.command import BIN, environment
from harness.server import free_port
from harness.waiting import wait_for

QUEUES = 200
EVERY = 5.0
"""Seconds between two scrapes."""

MOST = 0.5
"""Percent of a core, at most, of a scraped arbiter."""

MOST_OF_TOP = 3.0
"""The same of `resquedctl top`, which draws once a second."""

DRAWN = 3.0
"""Seconds until it has drawn for the first time."""


def measure(bench: Bench) -> None:
    workers, names = bench.options.crowd, [f"queue-{number}" for number in range(QUEUES)]
    port = free_port()
    words = [word for name in names for word in ("--queue", name)]
    pid_file = bench.directory / "scraped.pid"
    words += ["--http", f"127.0.0.1:{port}", "--pid", str(pid_file)]
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
        top = _top(pid_file, bench.options.idle)
    section = f"{workers} workers, {QUEUES} queues, --http"
    for what, figure in (("not scraped", idle), (f"scraped every {EVERY:g} s", scraped)):
        checks = [Check("", Spread.of([figure]), at_most(MOST))]
        row = f"CPU of the arbiter {what}, % of a core"
        bench.table.add(section, row, {"resqued": [figure]}, checks)
    checks = [Check("", Spread.of([top]), at_most(MOST_OF_TOP))]
    bench.table.add(section, "CPU of resquedctl top, % of a core", {"resqued": [top]}, checks)


def _top(pid_file: Path, seconds: float) -> float:
    """Percent of a core that it takes."""
    ours, its = os.openpty()
    termios.tcsetwinsize(its, (40, 100))
    top = subprocess.Popen(
        [BIN / "resquedctl", "--pid", pid_file, "top"],
        env=environment(TERM="xterm-256color"),
        cwd="/",
        stdin=its,
        stdout=its,
        stderr=its,
    )
    os.close(its)
    drain = threading.Thread(target=_drain, args=(ours,))
    drain.start()
    time.sleep(DRAWN)
    before, began = cpu_of(top.pid), time.monotonic()
    time.sleep(seconds)
    used = (cpu_of(top.pid) - before) / (time.monotonic() - began)
    assert top.poll() is None, "it has ended"
    os.write(ours, b"q")
    assert top.wait(10) == 0
    drain.join()
    os.close(ours)
    return 100 * used


def _drain(terminal: int) -> None:
    with contextlib.suppress(OSError):  # EIO: the other side is closed
        while os.read(terminal, 65536):
            pass


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
