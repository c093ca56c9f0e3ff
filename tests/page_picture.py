"""The picture of the page in `.github/`: a real browser's, of a service that is made up."""

from __future__ import annotations

import math
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from harness import needs
from harness.waiting import scaled
from resqued import WorkerState
from resqued.testing import (
    FakeArbiter,
    make_queue_counts,
    make_queue_facts,
    make_redis_facts,
    make_worker,
)
from resqued_plugins.http import address
from resqued_plugins.http.counts import Counts
from resqued_plugins.http.history import COLUMNS, EVERY, HOUR, History
from resqued_plugins.http.metrics import Metrics
from resqued_plugins.http.server import Server
from resqued_plugins.http.site import Site
from resqued_plugins.http.tally import Tally

SIZE = "1100,1290"

_JOBS = {
    2: ("myapp.tasks.resize", "high", 4),
    7: ("myapp.tasks.report", "low", 2467),
    12: ("myapp.tasks.resize", "high", 1),
    19: ("myapp.billing.charge", "critical", 2),
}


def draw(path: Path) -> None:
    """Write it as PNG. Skips the test, or fails, where Chromium is missing."""
    chromium = needs.program("chromium", "chromium")
    arbiter = sample()
    counts = Counts(arbiter)
    site = Site(arbiter, counts, Metrics(arbiter, counts, Tally()), past(), loopback=True)
    server = Server(address.listen("127.0.0.1:0"), site.answer)
    thread = threading.Thread(target=server.turn, args=(60,))
    thread.start()
    try:
        with tempfile.TemporaryDirectory() as profile:
            words = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
            words += (f"--window-size={SIZE}", f"--user-data-dir={profile}")
            words += ("--virtual-time-budget=4000", f"--screenshot={path}")
            url = f"http://{address.shown(server.listener)}/"
            subprocess.run(
                [chromium, *words, url], check=True, capture_output=True, timeout=scaled(120)
            )
    finally:
        server.close()
        thread.join()


def sample() -> FakeArbiter:
    """32 workers, and a queue that has a misspelt name."""
    now = time.monotonic()
    workers = [make_worker(number=number) for number in range(1, 33)]
    for number, (function, queue, age) in _JOBS.items():
        workers[number - 1] = make_worker(
            number=number,
            pid=8100 + number,
            job_id=f"b929a9ec-dede-44a9-b78b-2f9b7af5{4096 + number:x}",
            function=function,
            queue=queue,
            job_started=now - age,
            timeout=3600.0 if queue == "low" else 180.0,
            jobs=1500 + number,
            failed=number % 3,
            memory=58_000_000 + number * 300_000,
        )
    workers[31] = make_worker(number=32, state=WorkerState.BOOTING)
    facts = [
        make_queue_facts(name="critical", workers=32, busy=1, jobs_per_minute=41.0, failed=2),
        make_queue_facts(
            name="high", waiting=6, oldest=0.4, workers=20, busy=2, jobs_per_minute=388.0, failed=15
        ),
        make_queue_facts(name="low", waiting=41, oldest=192.0, workers=3, busy=1, failed=0),
        make_queue_facts(name="mials", waiting=5, oldest=1017.0, workers=0, unserved=True),
    ]
    counts = make_queue_counts(started=48_300, finished=48_211, failed=17, retried=44)
    return FakeArbiter(
        pid=4711,
        generation=3,
        workers=workers,
        wished=32,
        queues={queue.name: queue for queue in facts},
        counts={"high": counts},
        redis=make_redis_facts(round_trip=0.0004),
    )


def past() -> History:
    """An hour with a deployment, a flood of jobs after it, and two deaths."""
    now, history = time.time(), History()
    samples, finished, failed, retried = [], 20_000, 3, 10
    for step in range(int(HOUR / EVERY) + 1):
        at = step * EVERY
        flood = math.exp(-(((at - 2300) / 420) ** 2))
        finished += round(EVERY / 60 * (300 + 60 * math.sin(at / 240) + 380 * flood))
        failed += step % 37 == 0
        retried += round(6 * flood) + (step % 11 == 0)
        waiting = round(12 + 8 * math.sin(at / 130) + 900 * flood)
        busy = round(min(31, 9 + 4 * math.sin(at / 170) + 26 * flood))
        numbers = [
            finished,
            failed,
            retried,
            2,
            min(step, 200) // 60,
            waiting,
            3 + waiting / 9,
            busy,
            32,
        ]
        samples.append([now - HOUR + at, *numbers])
    marks = [
        (2180, "reload_done", "generation 3 in service"),
        (
            1150,
            "worker_died",
            "worker 5 died (out_of_memory, signal SIGKILL) with myapp.report",
        ),
        (600, "worker_died", "worker 9 died (died, signal SIGSEGV) with myapp.tasks.resize"),
    ]
    made = [{"time": now - ago, "event": event, "text": text} for ago, event, text in marks]
    history.restore({"columns": COLUMNS, "samples": samples, "marks": made})
    return history


if __name__ == "__main__":
    draw(Path(__file__).parent.parent / ".github" / "page.png")
